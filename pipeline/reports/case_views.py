"""Best, median and worst cases of a run, drawn: image with both contours, and a map of errors, slice by slice."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.measure import approximate_polygon, find_contours

from pipeline.issues import InputError
from pipeline.pictures.figures import PRED_COLOUR, TRUTH_COLOUR
from pipeline.runs.case_slices import CaseSlices, choose_ranks, list_slices, read_slices
from pipeline.runs.metric_names import is_small_good
from pipeline.runs.run_folder import Run

#: Reddish purple of Okabe and Ito: foreground in both, but of different classes
CLASS_COLOUR = (204, 121, 167)
EACH = 2
_QUALITY = 75
_NO_PICTURES = (
    "This run has no pictures of cases. Evaluations write them into case_pictures: run evaluate.json again with this "
    "folder as --output_dir."
)
_OF_TRAINING = "A training keeps no pictures of cases: run evaluate.json with its model.pt as --checkpoint."


@dataclass(frozen=True)
class Frame:
    """One slice, drawn."""

    number: int  #: number of the slice, from 1
    image: str  #: JPEG as a data URI
    errors: str  #: PNG with transparency as a data URI: missed, added and of another class
    truth: str  #: outline as the data of an SVG path, in pixels
    pred: str  #: the same of the prediction
    wrong: int  #: wrong pixels


@dataclass(frozen=True)
class View:
    """One case, drawn."""

    case_id: str  #: the case
    kind: str  #: best, median or worst
    rank: int  #: its place, 1 is the best
    count: int  #: number of ranked cases
    score: float  #: its score
    width: int  #: pixels of a slice
    height: int  #: pixels
    shown_height: float  #: height in units of a pixel's width
    total: int  #: slices of the volume
    has_truth: bool  #: whether the truth is known
    start: int  #: index of the frame with most errors
    frames: tuple[Frame, ...]  #: the slices


def draw_views(run: Run, metric: str | None) -> dict[str, Any]:
    """Return the views of a run's best, median and worst cases, or why there are none.

    Raises:
        InputError: a picture is damaged.
    """
    files = list_slices(run.folder)
    if not files or metric is None:
        return {"views": [], "why_not": _OF_TRAINING if run.is_training else _NO_PICTURES, "each": EACH}
    scores = {case: score for case, score in run.tables[metric].scores.items() if np.isfinite(score)}
    ranked = sorted(scores, key=lambda case: scores[case], reverse=not is_small_good(metric))
    kinds = {ranked[rank]: (kind, rank + 1) for rank, kind in choose_ranks(len(ranked), EACH).items()}
    views = []
    for case, (kind, rank) in kinds.items():
        if case in files:
            views.append(_draw_view(read_slices(files[case]), kind, rank, len(ranked), scores[case]))
    why_not = (
        "" if views else "The pictures in this folder are of other cases than its scores: run evaluate.json again."
    )
    return {"views": views, "why_not": why_not, "each": EACH}


def _draw_view(case: CaseSlices, kind: str, rank: int, count: int, score: float) -> View:
    frames = tuple(_draw_frame(case, place) for place in range(len(case.image)))
    if not frames:
        raise InputError(f"the picture of case {case.case_id} holds no slice; run evaluate.json again")
    height, width = case.image.shape[1:3]
    return View(
        case_id=case.case_id,
        kind=kind,
        rank=rank,
        count=count,
        score=score,
        width=width,
        height=height,
        shown_height=height * case.aspect,
        total=case.total,
        has_truth=case.truth is not None,
        start=max(range(len(frames)), key=lambda place: frames[place].wrong),
        frames=frames,
    )


def _draw_frame(case: CaseSlices, place: int) -> Frame:
    pred = case.pred[place]
    truth = np.zeros_like(pred) if case.truth is None else case.truth[place]
    errors = map_errors(pred, truth, is_instances=case.is_instances)
    stream = io.BytesIO()
    Image.fromarray(case.image[place]).save(stream, "JPEG", quality=_QUALITY)
    return Frame(
        number=int(case.numbers[place]),
        image=_to_uri(stream, "jpeg"),
        errors=_draw_errors(errors) if case.truth is not None else "",
        truth=outline(truth),
        pred=outline(pred),
        wrong=int((errors > 0).sum()) if case.truth is not None else int((pred > 0).sum()),
    )


def map_errors(pred: NDArray[Any], truth: NDArray[Any], *, is_instances: bool = False) -> NDArray[np.uint8]:
    """Return where a prediction is wrong: 1 missed, 2 added, 3 foreground of another class, which objects have not.

    Example:
        >>> map_errors(np.array([0, 1, 1, 2]), np.array([1, 0, 1, 1])).tolist()
        [1, 2, 0, 3]
    """
    errors = np.zeros(pred.shape, dtype=np.uint8)
    errors[(truth > 0) & (pred == 0)] = 1
    errors[(truth == 0) & (pred > 0)] = 2
    if not is_instances:
        errors[(truth > 0) & (pred > 0) & (truth != pred)] = 3
    return errors


def _draw_errors(errors: NDArray[np.uint8]) -> str:
    picture = Image.fromarray(errors).convert("P")
    picture.putpalette([0, 0, 0, *TRUTH_COLOUR, *PRED_COLOUR, *CLASS_COLOUR])
    stream = io.BytesIO()
    picture.save(stream, "PNG", transparency=0, optimize=True, bits=2)
    return _to_uri(stream, "png")


def outline(labels: NDArray[Any]) -> str:
    """Return the outlines of all labels as the data of an SVG path; x and y in pixels from the upper left corner.

    Example:
        >>> outline(np.array([[0, 0], [0, 3]]))
        'M1.5 2L1 1.5L1.5 1L2 1.5Z'
    """
    paths = []
    for label in np.unique(labels[labels > 0]):
        padded = np.pad(labels == label, 1)
        for line in find_contours(padded.astype(float), 0.5):
            points = approximate_polygon(line, 0.3)[:-1] - 0.5  # pixel (0, 0) has its centre at 0.5, and the frame
            paths.append("M" + "L".join(f"{x:.1f} {y:.1f}".replace(".0", "") for y, x in points) + "Z")
    return "".join(paths)


def _to_uri(stream: io.BytesIO, kind: str) -> str:
    return f"data:image/{kind};base64," + base64.b64encode(stream.getvalue()).decode("ascii")
