"""What the words, names and marks of a paper's page mean."""

import re
from collections.abc import Sequence

from experiments.verdicts import MATCHED, OUT_OF_REACH, QUOTED
from jaxdefense.reporting import Record

LEGEND = (
    "*As attacked*: the attacker of the paper, with the faults of its public code where there "
    "is a column *corrected*, which is without them. *White-box*: the same attack through the "
    "whole defence. *Strongest*: of all attackers measured, the one that leaves least (of "
    "claims about black boxes: of those). *Control*: the same attack (corrected) on something "
    "without an autoencoder that was trained to restore images; of transferred examples, the "
    "same examples; where it is named, the best of several that all seeds have. Verdict: "
    "*holds* where the strongest attacker leaves what the paper prints, and more than of the "
    "undefended classifier (intervals apart, and every seed above every seed of that); "
    "*weakened* where less than printed, but more than that and than an answer that is always "
    "the same (below eps 0.5, from where all images can be the same grey); *no gain* where no "
    "more is left than without it, yet what is printed, or more than 5 % and than such an "
    "answer gets; else *broken*; *undefended already* so many points, where the noise leaves "
    "our undefended network that much less than the paper's (with a gain, unless *no gain* is "
    "added), or (beside *holds* and *weakened*) the attack that much more; *too few images* where "
    "it leaves nothing and the images are too few to tell that from what is printed; "
    f"*{MATCHED}* (beside *holds*, *weakened* and, of noise that leaves something, *undefended "
    f"already*) where the best control has no less left of the paper's attacker; *{QUOTED}* "
    "what the paper has from others, of whose radius nothing is known; "
    f"*{OUT_OF_REACH}* where our smaller network and its defence have less on clean images "
    "than the paper prints on attacked ones, so that *holds* was out of reach; "
    "without attack or defence, and where the paper prints less with the defence than without, "
    "*as printed* where within 5 points.\n\n"
    "Examples shown to what they were not crafted on count by themselves, as papers count (of "
    "Ghosh and Chatterjee all of FGSM and PGD, and of Gilbert's bare networks what they are "
    "shown of their own). Of all else through the whole an image that is wrong clean is wrong "
    "at every radius, and, but for FGSM and Gilbert's PGD, one that is wrong at a smaller "
    "radius at all larger ones."
)

FORETOLD = (
    "What should break was written down before anything was measured. How it is told from the "
    "numbers was mended on 22 to 24 November 2026, after a first look at them (like radii and "
    "seeds, what seeds and intervals leave open), and some lines, of controls that have learned "
    "nothing and of what the papers show in figures, were added then, so that an outcome may owe "
    "something to what was seen."
)

_NAMED = {
    r"quick": "APGD of 25 steps on the cross-entropy, then on targeted DLR towards 3 classes",
    r"autoattack": "AutoAttack in its standard version",
    r"autoattack-rand-.*": "AutoAttack in its version for random defences",
    r"(?:pgd|bim|mifgsm)-(\d+)": "{} steps",
    r"pgd-(\d+)x(\d+)": "{} steps, {} restarts",
    r"pgd-(\d+)-step-([\d.]+)": "{} steps of {}",
    r"pgd-(\d+)-step-third": "{} steps of a third of the radius",
    r"pgd-(\d+)-eot-(\d+)": "{} steps, whose gradients are means of {} draws",
    r"pgd-(\d+)-bpda": "{} steps, past the search as if it changed nothing",
    r"pgd-(\d+)-unrolled": "{} steps, with the gradient of the whole search",
    r"pgd-(\d+)-noiseless": "{} steps on the defence without its noise",
    r"(pgd-\d+|quick)-choice": "{} on PuVAE's choice of a class",
    r"square-(\d+)": "{} queries",
    r"spsa-(\d+)x(\d+)": "{} steps, of two queries at {} samples each",
    r"cw-(\d+)x(\d+)": "{} searches of {} steps",
    r"deepfool-(\d+)": "at most {} steps",
    r"(?:ddn|latent)-(\d+)": "{} steps",
    r"latent-(\d+)-nearest": "{} steps, from the code that the search finds for the clean image",
}
"""Names of attacks -> what they say, which one sees by the first that has such a name."""


def attacks_named(records: Sequence[Record]) -> str:
    """What the names of attacks in tables say, of those that occur."""
    names, told = dict.fromkeys(record.attack for record in records), []
    for pattern, words in _NAMED.items():
        found = next(filter(None, (re.fullmatch(pattern, name) for name in names)), None)
        if found:
            told.append(f"*{found.group()}*: {words.format(*found.groups())}")
    return f"Names of attacks: {'; '.join(told)}." if told else ""
