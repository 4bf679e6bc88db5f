"""The codes of the audit: how grave each is, what it means, and what a receiver does about it."""

import re
from typing import Literal, NamedTuple

Level = Literal["error", "review", "note"]
LEVELS: tuple[Level, ...] = ("error", "review", "note")


class Code(NamedTuple):
    """What a code stands for."""

    level: Level
    meaning: str
    todo: str


# Code, level: meaning; what to do. Codes are stable: they are never renamed or given another meaning.
_TABLE = """
member-path error: an archive's member would be written outside of the folder, or under another name on another
    system; ask the sender for an archive without it
member-link error: a link, device or other special file, which can lead out of the folder; replace it by the file that
    it stands for
member-twice error: two members have one name, or names that differ in case or accents alone; ask the sender for an
    archive without it
member-encrypted error: a member is encrypted or compressed by a rare method, so nobody can look into it; ask for a
    plain zip
member-bomb error: the archive unpacks to far more than its own size, or its members share bytes; do not unpack it by
    other means either
archive-damaged error: the archive cannot be read to its end; fetch it again
too-many-files error: the bundle holds more files than any bundle needs; ask the sender what they are
nested-archive review: an archive within the bundle, which the audit does not open; unpack and audit it separately
not-a-bundle error: there is no config in configs/; name the folder that holds configs/, or a zip file of it
unreadable-file error: a file cannot be read; mend its permissions
changed-file error: a file differs from its digest in SHA256SUMS; fetch the bundle again, or ask the sender
missing-file error: SHA256SUMS lists a file that is not there; fetch the bundle again, or ask the sender
extra-file error: a file is not listed in SHA256SUMS; remove it, or ask the sender for new checksums
checksum-syntax error: a line of SHA256SUMS is not a digest and a path; ask the sender for new checksums
unexpected-code error: a file holds code; read it, and if you trust it give --allow-code, or list it in your allow-
    list
code-summary review: what the code that you allowed imports and calls; read it before you run it
site-hook error: Python runs this file at every start, or when tests are collected; remove it
pickle-file error: a pickle runs code when it is loaded; ask for safetensors, JSON or CSV
object-array error: an array of Python objects, which is a pickle; ask for an array of numbers
notebook error: a notebook holds code and its outputs; remove it
foreign-wheel error: a wheel that is not this package; install packages from an index that you trust
wheel-differs review: the wheel is another build of the version that is installed here; keep your own package, or
    compare the wheel's digest with the sender's before you install it
wheel-version review: the wheel is another version of this package, so its content could not be compared; compare its
    digest with the sender's
unknown-file review: a kind of file that bundles do not need; look at it
file-name-sign error: the name of a file or folder begins with $, @ or %, which MONAI would run or follow; rename it
config-too-large error: a config is too large to be one; remove what is not a config
config-too-deep error: a config is nested too deeply; write it flatter
config-syntax error: a config is not plain JSON or YAML in UTF-8; mend the place
duplicate-key error: a key occurs twice, and readers disagree about which one counts; remove one
yaml-tag error: a YAML tag can build any object; write plain values
yaml-alias error: YAML aliases that contain themselves or unfold to a giant; write the values out
ambiguous-key error: a nested key holds # or ::, so two places get one id, or its text could become code; nest it
    instead
target-denied error: the class or function can run code, read pickles, download or delete; use another, or list it in
    your allow-list if you need it
target-outside error: a class or function outside of the packages that bundles may use; list it in your allow-list if
    you trust it
target-unknown error: the installed packages have no such class or function; compare the versions in metadata.json
target-indirect error: what is built is computed or taken from another place; write the class's name out
target-module error: a module, not a class or function; importing it is all that this does
target-review review: the class or function writes, deletes, downloads or sends data; read its arguments
bundle-code review: the class or function comes from the bundle's own code; read that file
mode-debug error: the mode starts a debugger, or is computed; only default and callable are modes of a shared bundle
named-class error: an argument names the class to load, and that class is not allowed; use a reader or writer of MONAI
unsafe-argument error: the argument lets a reader load pickles; remove it
download-argument review: the argument downloads weights or a file; give a local file
expression-syntax error: MONAI cannot parse the expression; mend it
expression-import error: an import of a module that expressions of bundles may not use; remove it
expression-name error: a name that expressions of bundles may not use; use what MONAI, torch and numpy offer
expression-attribute error: an attribute that leads into Python's inside, or writes; remove it
expression-call error: a call that expressions of bundles may not make; use a _target_ that the audit knows
expression-node error: a kind of expression that bundles do not need; write it as plain values
expression-size error: numbers or repetitions that can fill the memory or never end; write smaller ones
expression-module error: a module used as a value, from which everything can be reached; name the function in full
expression-review review: an expression that reads files or the environment, or is hard to judge; read it
reference-import error: a reference to an import, which gives the whole module; remove it
reference-missing review: no config of the bundle has this id; did you mean another?
reference-outside error: a relative reference leads above the root of the config, or a macro copies it to where it
    means something else; mend it
macro-outside error: a macro reads a file outside of the bundle; copy what you need into the config
macro-file review: a macro reads another file, relative to the folder where the command is typed; write it into the
    config
logging-code error: logging.conf would run code; name logging's own classes and plain values only
logging-review review: logging.conf writes a file or sends messages over the network; read it
shape-expression error: metadata.json has a shape that is more than numbers, p, n, + - * / and **; write the numbers
metadata-field review: metadata.json or the bundle lacks what a receiver must know; ask the sender
metadata-sign error: a text of metadata.json begins with $, @ or %, so MONAI would run or follow it; put
    plain text there
weights-legacy error: weights in the old format, which is a bare pickle; ask for safetensors, or save them again with
    torch.save
weights-pickle error: the pickle in the weights names what torch's weights-only reader refuses; do not load it
weights-damaged error: the weights cannot be read; fetch them again
weights-header error: the header of a safetensors file does not fit its bytes; do not load it
torchscript review: TorchScript holds a program besides the weights; ask for a state dict
weights-unloadable error: torch refuses to load the weights within the limits; ask for safetensors
weights-mismatch error: the weights do not fit network_def; ask the sender which weights belong to this network
weights-differ error: the weights travel in two formats that do not hold the same tensors; ask the sender which are
    meant
insecure-url error: a download without https; use https
url-without-hash error: a download without a digest, so anything may arrive; ask for its sha256
weak-hash review: the digest of a download is not SHA-256; ask for its sha256
download-path error: a download would be written outside of the bundle; mend the path
url-in-config review: a config names an address on the network; see what is fetched or sent
home-path error: the path of a person's folder; write a relative path
absolute-path review: an absolute path, which other machines do not have; write a path relative to the bundle
code-path review: a config names a file that would be code, or that a shell or Python reads at its start; see whether
    it is written
host-name review: the name of this machine or of your account; remove it before you share
private-key error: a key or password; revoke it and remove it
private-file error: a file that is private or of one machine only; leave it out
output-file error: an output of a run, which may hold names and pictures of patients; leave it out
picture error: an image or scan outside of docs/ and reference/; leave it out
array-file review: an array, which may be an image of a patient; look at it
documented-picture note: a picture for the model card or the reference case, which may stand there; see that it shows
    no patient's name
patient-field error: a field with a patient's name or number; remove it
dicom-uid review: a number that DICOM gives to one study or image; remove it
"""


def _read_table() -> dict[str, Code]:
    codes = {}
    for line in re.sub(r"\n +", " ", _TABLE.strip()).splitlines():
        head, _, text = line.partition(": ")
        name, level = head.split()
        meaning, _, todo = text.partition("; ")
        codes[name] = Code(next(known for known in LEVELS if known == level), meaning, todo)
    return codes


CODES = _read_table()
