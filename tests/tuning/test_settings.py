import pytest

from pipeline.tuning.settings import KNOBS, STEPS, build_steps, draw_crfs, name_setting, pick_best, switch_off

OWN = {
    "threshold": 0.5,
    "skip_crf": True,
    "crf_spatial_weight": 3.0,
    "crf_spatial_width": [3.0, 3.0, 1.0],
    "crf_bilateral_weight": 10.0,
    "crf_bilateral_width": 80.0,
    "crf_bilateral_intensity": 13.0,
    "crf_iterations": 5,
    "skip_largest_component": False,
    "skip_fill_holes": True,
    "skip_small_objects": True,
    "min_size": 64,
    "skip_opening": True,
    "opening_radius": 2,
    "skip_closing": True,
    "closing_radius": 1.0,
}


MORPHOLOGY = ["largest_component", "fill_holes", "small_objects", "opening", "closing"]


def test_the_own_values_are_those_of_all_knobs() -> None:
    assert set(OWN) == set(KNOBS)


def test_crfs_are_the_same_for_a_seed_and_stay_in_their_ranges() -> None:
    drawn = draw_crfs(OWN, 16, seed=3)
    assert drawn == draw_crfs(OWN, 16, seed=3)
    assert drawn != draw_crfs(OWN, 16, seed=4)
    assert len({name_setting(setting) for setting in drawn}) == len(drawn) == 16
    assert all(setting["skip_crf"] is False and setting["crf_iterations"] == 5 for setting in drawn)
    for knob, low, high in (("crf_bilateral_weight", 1.25, 20), ("crf_bilateral_width", 10, 100)):
        values = [setting[knob] for setting in drawn]
        assert low <= min(values) < OWN[knob] <= max(values) <= high
    widths = [setting["crf_spatial_width"] for setting in drawn]
    assert all(width[0] == width[1] == pytest.approx(3 * width[2], rel=0.01) for width in widths)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_as_many_crfs_as_asked_for(count: int) -> None:
    assert len(draw_crfs(OWN, count, seed=0)) == count


def test_a_step_that_the_bundle_has_no_knob_of_is_left_out() -> None:
    several_classes = {knob: value for knob, value in OWN.items() if knob != "threshold"}
    assert [step.name for step in build_steps(list(STEPS), several_classes, 2, 0)] == ["crf", *MORPHOLOGY]
    assert [step.name for step in build_steps(["threshold"], OWN, 2, 0)] == ["threshold"]


def test_of_equal_thresholds_the_nearest_to_the_usual_is_taken() -> None:
    (step,) = build_steps(["threshold"], OWN, 2, 0)
    base = switch_off(OWN, ["threshold"])
    settings = [base, *step.candidates]
    assert settings[pick_best([float(setting["threshold"] < 0.48) for setting in settings])]["threshold"] == 0.45
    assert pick_best([0.7] * len(settings)) == 0


def test_each_step_of_morphology_is_a_step_with_sizes_around_the_own() -> None:
    steps = build_steps(["morphology"], OWN, 2, 0)
    assert [step.name for step in steps] == MORPHOLOGY
    base = switch_off(OWN, ["morphology"])
    chosen = {
        step.name: [{knob: (base | values)[knob] for knob in step.knobs} for values in step.candidates]
        for step in steps
    }
    assert chosen["fill_holes"] == [{"skip_fill_holes": False}]
    assert [values["min_size"] for values in chosen["small_objects"]] == [16, 64, 256, 1024]
    assert [values["opening_radius"] for values in chosen["opening"]] == [1, 2, 3]
    assert [values["closing_radius"] for values in chosen["closing"]] == [0.5, 1, 1.5]
    assert all(isinstance(values["opening_radius"], int) for values in chosen["opening"])


def test_a_size_without_its_switch_is_no_step() -> None:
    knobs = {knob: OWN[knob] for knob in ("min_size", "skip_opening", "opening_radius")}
    assert [step.knobs for step in build_steps(["morphology"], knobs, 2, 0)] == [("skip_opening", "opening_radius")]


def test_a_base_without_a_score_loses_to_one_that_has_one() -> None:
    assert pick_best([float("nan"), float("nan"), 0.1]) == 2
    assert pick_best([0.1, float("nan")]) == 0
