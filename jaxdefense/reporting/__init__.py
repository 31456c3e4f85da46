"""From measured cells to files: records, tables, figures and the HTML report.

Takes plain numpy and Python values; the only room in which matplotlib lives.
"""

from .bars import Bar as Bar
from .bars import bars as bars
from .figures import curve as curve
from .figures import robustness_curves as robustness_curves
from .figures import save as save
from .histories import training_curves as training_curves
from .images import difference as difference
from .images import image_grid as image_grid
from .images import overlay as overlay
from .images import verdict as verdict
from .lines import Line as Line
from .lines import line_panels as line_panels
from .lines import scatter_panels as scatter_panels
from .panels import curve_panels as curve_panels
from .records import Record as Record
from .records import ensure_folder as ensure_folder
from .records import read_json as read_json
from .records import versions as versions
from .records import write_atomically as write_atomically
from .records import write_csv as write_csv
from .records import write_json as write_json
from .report import write_report as write_report
from .surfaces import surface_panels as surface_panels
from .tables import Table as Table
from .tables import accuracies as accuracies
from .tables import accuracy_table as accuracy_table
from .tables import comparison as comparison
from .tables import comparison_table as comparison_table
