"""Clips of an evaluation are shared out among the worlds that are drawn on its map."""

from pathlib import Path

import pytest

from bridges import evaluation as module
from dcgen.checkpoint import save_model
from tests.dcgen.small import clip, model


@pytest.mark.parametrize(("worlds", "shares"), [(1, {5: 7}), (3, {5: 2, 6: 2, 7: 3}), (9, None)])
def test_every_world_gives_its_share_of_the_clips(worlds, shares, monkeypatch, tmp_path):
    asked, told = {}, []
    monkeypatch.setattr(
        module, "world_of", lambda path, seed: type("World", (), {"name": f"town {seed}", "seed": seed})
    )

    def some(world, config, count, seed):
        assert world.seed == seed
        asked[seed] = count
        return map(clip, range(count))

    monkeypatch.setattr(module, "unseen_clips", some)
    name = str(save_model(model(), tmp_path))
    figures = module.evaluate_on_map(
        name,
        Path("map.xodr"),
        7,
        5,
        told.append,
        lambda done, total: None,
        worlds=worlds,
        generate_clips=0,
        long_scenes=0,
    )
    assert figures["counts"]["clips"] == 7 == sum(asked.values())
    assert list(asked) == list(range(5, 5 + worlds))
    assert shares is None or asked == shares
    assert [line for line in told if " clips of " in line] == [f"{n} clips of town {k}" for k, n in asked.items()]
