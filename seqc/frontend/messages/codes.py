"""Every diagnostic of the frontend: a stable code and what it means.

A code is never given a second meaning.  E001-E019 are about the text, E020-E039
about names, E040-E059 about time and axes, E060-E079 about functions and learned
maps, E080-E099 about statements, E100-E119 about what isn't available yet;
W001-W019 are warnings.
"""

from __future__ import annotations

CODES: dict[str, str] = {
    # the text
    "E001": "the file is not text",
    "E002": "the file is larger than a spec may be",
    "E003": "brackets are nested too deeply",
    "E004": "a bracket is not closed",
    "E005": "a closing bracket has no opening one, or not its kind",
    "E006": "a line does not read as a statement",
    "E007": "a character that the language does not know",
    "E008": "a number is too large to be held",
    "E009": "once every def is written out, the layer is too large",
    # names
    "E020": "a name is not defined",
    "E021": "an axis is not the name of a size",
    "E022": "a name is defined twice",
    "E023": "a name is reserved",
    "E024": "no function has this name",
    "E025": "a def calls itself",
    "E026": "a def reads a name that is not its parameter",
    # time and axes
    "E040": "a sequence is used without its time index",
    "E041": "something constant in time has a time index",
    "E042": "a time index looks into the future",
    "E043": "a time index is not [t] or [t-k]",
    "E044": "equations need one another within one step",
    "E045": "a value reads its own past but is no state",
    "E046": "something constant in time reads a sequence",
    "E047": "axes are missing",
    "E048": "an equation has axes that its declaration leaves out",
    "E049": "a value does not have the axis",
    "E050": "a convolution stands in the loop of a recurrence",
    "E051": "an axis is renamed to one that the value has already",
    "E052": "an axis is renamed to one of another extent",
    "E053": "a bundle stands where none can, or it is not said which part is meant",
    # functions and learned maps
    "E054": "a declared map is called with what does not fit it, or does not map its arguments",
    "E055": "a choice names what is no function of one number",
    "E060": "a function has the wrong number of arguments",
    "E061": "a function has no such keyword argument",
    "E062": "an argument is not of the kind that the function takes",
    "E063": "a truth value is used as a number",
    "E064": "a learned map stands where none can",
    "E065": "a learned map cannot be named",
    "E066": "two learned maps have the same name",
    "E067": "comparisons are chained",
    "E068": "a tuple stands outside an algebra",
    "E069": "a learned map does not fit its axes",
    "E070": "a complex value stands where only a real one can",
    "E071": "an input or an output is complex",
    # statements
    "E080": "the file has no layer",
    "E081": "a statement stands before the first layer",
    "E082": "a layer has no output",
    "E083": "an output is not defined",
    "E084": "a state is never updated",
    "E085": "an input is assigned",
    "E086": "a size is not a positive whole number or another size",
    "E087": "a hyper-parameter has no number",
    "E088": "a parameter's start is not one of the known kinds",
    "E089": "a declaration has something that it cannot have",
    "E090": "an algebra is incomplete or malformed",
    "E091": "an algebra is applied where or as it cannot be",
    "E092": "a stated gradient does not fit its def",
    "E093": "`solve` asks for what there is not",
    "E094": "a hyper-parameter's domain is malformed",
    "E095": "a hyper-parameter's number lies outside its domain",
    "E096": "`gradient` asks for what there is not",
    "E099": "there are more errors than are shown",
    # promised
    "E100": "`space` is not available yet",
    "E101": "`conv2d` is not available yet",
    "E106": "`penalty` is not available yet",
    # warnings
    "W001": "a name is never used",
    "W002": "an equation makes an outer product that nothing reduces or stores",
    "W003": "the gradient of a parameter is zero everywhere",
}
