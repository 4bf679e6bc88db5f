"""Settings that fit a dataset: voxel size, crops, grids, tiles, memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.bundle.configs import find_blocks
from pipeline.bundle.dataset import UserDataset
from pipeline.bundle.draft import Draft
from pipeline.bundle.fitting import find_large_pictures, fit_cache_rate, fit_grid, fit_sizes, needs_balanced_crops
from pipeline.bundle.recipe import read_template
from pipeline.bundle.render import render_configs
from pipeline.issues import InputError
from tests.bundle.conftest import change_cases, make_draft


def test_the_voxel_size_follows_the_axes_of_the_body(volumes: UserDataset) -> None:
    # The files' axes are anterior 1.5 mm, left 1 mm, superior 2 mm.
    assert volumes.manifest.cases[0].facts["spacing"] == [1.5, 1.0, 2.0]
    assert fit_sizes(make_draft(volumes, "volumes")) == {"spacing": [1.0, 1.5, 2.0]}
    configs = render_configs(make_draft(volumes, "volumes"))
    assert configs["train.json"]["spacing"] == configs["inference.json"]["spacing"] == [1.0, 1.5, 2.0]


def test_without_files_the_axes_are_those_of_the_manifest(volumes: UserDataset) -> None:
    assert fit_sizes(make_draft(replace(volumes, folder=None), "volumes")) == {"spacing": [1.5, 1.0, 2.0]}


def test_what_is_not_known_stays(volumes: UserDataset) -> None:
    unknown = change_cases(volumes, facts={})
    assert fit_sizes(make_draft(unknown, "volumes")) == {}
    assert not needs_balanced_crops(unknown, [16, 16, 16], [1, 1, 1])
    assert render_configs(make_draft(unknown, "volumes"))["train.json"]["spacing"] == [1.0, 1.0, 1.0]


def test_crops_hold_labels_where_volumes_are_larger(volumes: UserDataset) -> None:
    # 20 x 24 x 18 voxels of 1.5 x 1 x 2 mm are 30 x 24 x 36 mm; 16 voxels a side are 16 x 24 x 32 mm.
    assert needs_balanced_crops(volumes, [16, 16, 16], [1.0, 1.5, 2.0])
    assert not needs_balanced_crops(volumes, [32, 24, 32], [1.0, 1.5, 2.0])
    recipe = read_template("volumes")
    small = replace(recipe, knobs={**recipe.knobs, "roi_size": [16, 16, 16]})
    (crop,) = find_blocks(render_configs(make_draft(volumes, small)), "RandCropByPosNegLabeld")
    assert (crop["spatial_size"], crop["pos"], crop["neg"], crop["num_samples"]) == ("@roi_size", 1, 1, 1)
    assert any(find_blocks(render_configs(make_draft(volumes, "volumes")), "RandSpatialCropd"))


def draft_pictures(grey: UserDataset, *shapes: Any, **network: Any) -> Draft:
    cases = tuple(
        replace(case, facts={"shape": shapes[index % len(shapes)]}) for index, case in enumerate(grey.manifest.cases)
    )
    recipe = read_template("pictures")
    recipe = replace(recipe, network_def={**recipe.network_def, **network})
    return make_draft(replace(grey, manifest=replace(grey.manifest, cases=cases)), recipe)


def test_the_grid_has_the_proportions_of_the_pictures(grey: UserDataset) -> None:
    configs = render_configs(draft_pictures(grey, [128, 160], [256, 320]))
    assert configs["train.json"]["image_size"] in ([128, 160], [224, 288])
    assert configs["inference.json"]["image_size"] == configs["train.json"]["image_size"]
    assert configs["phantom.json"]["image_size"] == [64, 64]
    assert fit_sizes(draft_pictures(grey, [100, 200, 3])) == {"image_size": [96, 192]}
    assert fit_sizes(draft_pictures(grey, [600, 600])) == {"image_size": [256, 256]}


@pytest.mark.parametrize(
    ("shapes", "network"),
    [([[100, 200], [200, 100]], {}), ([[128, 160]], {"img_size": [256, 256]}), ([None], {})],
)
def test_the_grid_of_the_recipe_is_kept(grey: UserDataset, shapes: list[Any], network: dict[str, Any]) -> None:
    assert fit_sizes(draft_pictures(grey, *shapes, **network)) == {}


@pytest.mark.parametrize("rows", [30, 65, 240, 1000, 6000])
@pytest.mark.parametrize("columns", [30, 99, 512, 4000])
def test_no_grid_is_much_larger_than_the_recipes(rows: int, columns: int) -> None:
    grid = fit_grid(rows, columns, [256, 256])
    assert all(side % 32 == 0 and side >= 64 for side in grid)
    # Rounding to the next 32 may add 16 to each side.
    if 1 / 3 < rows / columns < 3:
        assert grid[0] * grid[1] <= (256 * 256) * 1.2


def draft_objects(cells: UserDataset, side: int) -> Draft:
    return make_draft(change_cases(cells, facts={"shape": [side, side + 200]}), "objects")


def test_tiles_fit_small_images(cells: UserDataset) -> None:
    configs = render_configs(draft_objects(cells, 192))
    # 388 - 13 * 16 = 180 pixels, the first that are no more than 192.
    assert configs["train.json"]["output_size"] == configs["inference.json"]["output_size"] == [180, 180]
    assert configs["train.json"]["input_size"] == [364, 364]
    assert configs["phantom.json"]["output_size"] == [52, 52]
    assert fit_sizes(draft_objects(cells, 600)) == {"input_size": [572, 572], "output_size": [388, 388]}
    assert fit_sizes(draft_objects(cells, 387)) == {"input_size": [556, 556], "output_size": [372, 372]}


def test_images_that_no_tile_fits(cells: UserDataset) -> None:
    with pytest.raises(InputError, match=r"mirrors 92 pixels at each border .* has 90 pixels a side"):
        fit_sizes(draft_objects(cells, 90))


@pytest.mark.parametrize(
    ("shape", "template", "rate", "megapixels"),
    [
        ([512, 512], "stacks", 1.0, 0),
        # Six pictures of 500 megapixels: 8 bytes each for image and mask are 24 GB, as bytes of the mask alone 3.
        ([20000, 25000], "stacks", 0.33, 500),
        ([20000, 25000], "pictures", 1.0, 0),
        (None, "stacks", 1.0, 0),
    ],
)
def test_no_more_cases_are_cached_than_fit(
    grey: UserDataset, shape: list[int] | None, template: str, rate: float, megapixels: float
) -> None:
    draft = make_draft(change_cases(grey, facts={"shape": shape}), template)
    assert fit_cache_rate(draft)[0] == rate
    assert find_large_pictures(draft) == megapixels
    assert render_configs(draft)["train.json"]["cache_rate"] == rate
