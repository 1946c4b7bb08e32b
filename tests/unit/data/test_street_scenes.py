from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import street_scenes as renderer
from iccld.cli import main
from iccld.data import street_scenes
from iccld.data.datasets import open_dataset
from iccld.data.image_files import read_image, read_label
from iccld.data.street_scenes import StreetScenes, write_scenes
from iccld.data.workers import WorkerDiedError
from iccld.errors import InputError, RunFailedError
from iccld.labels import CAMVID11, CITYSCAPES19, CITYSCAPES_ID_TO_TRAIN_ID
from street_scenes.camera import Camera
from street_scenes.files import label_id_table
from street_scenes.looks import LOOKS, pick
from street_scenes.render import render_scene

ROAD, SKY = 0, 10
SIZE = (48, 72)


@pytest.fixture(scope="module")
def many() -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    return {
        look: [render_scene(seed, look=look, height=SIZE[0], width=SIZE[1]) for seed in range(12)]
        for look in LOOKS
    }


def test_same_arguments_give_same_bytes_whatever_the_threads() -> None:
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        image, label = render_scene(3, look="camera", height=96, width=128)
        cv2.setNumThreads(4)
        np.random.seed(0)
        again, label_again = render_scene(3, look="camera", height=96, width=128)
    finally:
        cv2.setNumThreads(threads)
    np.testing.assert_array_equal(image, again)
    np.testing.assert_array_equal(label, label_again)


def test_seeds_and_looks_change_the_scene() -> None:
    scenes = [
        render_scene(seed, look=look, height=64, width=96)[1]
        for seed in (0, 1)
        for look in ("game", "camera")
    ]
    for index, first in enumerate(scenes):
        for second in scenes[index + 1 :]:
            assert (first != second).mean() > 0.02


@given(
    seed=st.integers(0, 10_000),
    look=st.sampled_from(sorted(LOOKS)),
    height=st.integers(48, 90),
    width=st.integers(48, 120),
)
@settings(max_examples=8, derandomize=True, deadline=None)
def test_any_size_gives_image_and_train_ids(seed: int, look: str, height: int, width: int) -> None:
    image, label = render_scene(seed, look=look, height=height, width=width)
    assert (image.shape, image.dtype) == ((height, width, 3), np.uint8)
    assert (label.shape, label.dtype) == ((height, width), np.uint8)
    assert set(np.unique(label)) <= {*range(19), 255}
    assert image.std() > 4


@pytest.mark.parametrize("look", sorted(LOOKS))
def test_sky_is_above_the_road_and_nothing_is_forgotten(
    look: str, many: dict[str, list[tuple[np.ndarray, np.ndarray]]]
) -> None:
    unlabeled = 0.0
    for _, label in many[look]:
        rows = np.arange(SIZE[0])[:, None] * np.ones_like(label)
        if (label == SKY).sum() > 50 and (label == ROAD).sum() > 50:
            assert np.median(rows[label == SKY]) < np.median(rows[label == ROAD])
            assert rows[label == SKY].max() <= SIZE[0] * 0.75
        unlabeled += float((label == 255).mean())
    assert unlabeled / len(many[look]) < 0.05


@pytest.mark.parametrize("look", sorted(LOOKS))
def test_shares_resemble_streets(look: str, many: dict[str, list[tuple[np.ndarray, np.ndarray]]]) -> None:
    counts = sum(np.bincount(label.ravel(), minlength=256)[:19] for _, label in many[look])
    shares = dict(zip(CITYSCAPES19.names, counts / counts.sum(), strict=True))
    bounds = {
        "road": (0.22, 0.48), "sky": (0.08, 0.28), "building": (0.1, 0.35), "vegetation": (0.05, 0.25),
        "car": (0.02, 0.14), "sidewalk": (0.015, 0.1), "pole": (0.003, 0.03), "person": (0.001, 0.03),
    }  # fmt: skip
    for name, (low, high) in bounds.items():
        assert low < shares[name] < high, (name, shares[name])


@pytest.mark.parametrize("look", sorted(LOOKS))
def test_all_classes_occur(look: str, many: dict[str, list[tuple[np.ndarray, np.ndarray]]]) -> None:
    seen = {int(v) for _, label in many[look] for v in np.unique(label)}
    for seed in range(12, 200):
        if seen >= set(range(19)):
            break
        seen |= {int(v) for v in np.unique(render_scene(seed, look=look, height=SIZE[0], width=SIZE[1])[1])}
    assert sorted(set(range(19)) - seen) == []


def test_looks_differ_as_pictures(many: dict[str, list[tuple[np.ndarray, np.ndarray]]]) -> None:
    def saturation(look: str) -> float:
        images = np.stack([image for image, _ in many[look]]).astype(np.float64)
        return float(((images.max(axis=3) - images.min(axis=3)) / (images.max(axis=3) + 10)).mean())

    assert saturation("game") > saturation("camera") + 0.03


def test_at_night_the_sky_is_darker_than_the_road(
    many: dict[str, list[tuple[np.ndarray, np.ndarray]]],
) -> None:
    def brightness(look: str, kind: int) -> float:
        return float(np.concatenate([image[label == kind] for image, label in many[look]]).mean())

    assert brightness("night", SKY) < brightness("night", ROAD)
    for look in ("game", "camera"):
        assert brightness(look, SKY) > brightness(look, ROAD)


def test_camera_agrees_with_a_rotation_matrix() -> None:
    camera = Camera(200, 300, 250.0, 1.5, 0.7, 0.1, 0.0, 0.0, 0.0)
    points = np.array([[0.0, 0.0, 8.0], [2.0, 1.0, 20.0], [-3.0, 6.0, 50.0]])
    sine, cosine = np.sin(0.1), np.cos(0.1)
    rotation = np.array([[1, 0, 0], [0, cosine, sine], [0, -sine, cosine]])
    turned = (points - [0.7, 1.5, 0.0]) @ rotation.T
    expected = turned[:, :2] / turned[:, 2:] * [250.0, -250.0] + [150.0, 100.0]
    np.testing.assert_allclose(camera.project(points), expected, atol=1e-3)


@given(
    lateral=st.floats(-8, 8), along=st.floats(3, 60), bend=st.floats(-0.01, 0.01), hill=st.floats(0, 0.001)
)
@settings(max_examples=40, derandomize=True, deadline=None)
def test_ground_rows_invert_the_projection(lateral: float, along: float, bend: float, hill: float) -> None:
    camera = Camera(400, 600, 500.0, 1.4, 1.0, 0.02, 0.03, bend, hill)
    column, row = camera.project(np.array([[lateral, 0.0, along]]))[0]
    horizon, depths = camera.ground()
    if not (0 <= column < 600 and horizon + 1 < row < 399):
        return
    found = np.interp(row, np.arange(horizon, 400) + 0.5, depths)
    assert found == pytest.approx(along, rel=0.06)
    laterals = camera.columns_to_lateral(np.array([along]))[0]
    assert np.interp(column, np.arange(600) + 0.5, laterals) == pytest.approx(lateral, abs=0.05)


def test_pick_follows_the_weights() -> None:
    rng = np.random.default_rng(0)
    drawn = np.bincount([pick(rng, (0.5, 0.0, 1.5)) for _ in range(4000)], minlength=3)
    assert drawn[1] == 0
    assert drawn[0] / 4000 == pytest.approx(0.25, abs=0.03)


class TestStreetScenes:
    def test_scenes_are_rendered_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[int] = []
        real = street_scenes.render_scene

        def counted(seed: int, **kwargs: object) -> object:
            calls.append(seed)
            return real(seed, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(street_scenes, "render_scene", counted)
        data = StreetScenes("both", count=4, height=48, width=64)
        first = data.image(2)
        assert data.image(2) is first
        data.label(2)
        data.prepare()
        data.prepare()
        assert len(calls) == len(set(calls)) == 4

    def test_both_takes_turns_and_matches_the_single_looks(self) -> None:
        data = StreetScenes("both", count=3, height=48, width=64, seed=2)
        assert [data.file_name(i) for i in range(3)] == ["game_000000", "camera_000001", "game_000002"]
        np.testing.assert_array_equal(data.image(1), StreetScenes("camera", 2, 48, 64, seed=2).image(1))

    def test_labels_are_translated(self) -> None:
        plain = StreetScenes("camera", 3, *SIZE)
        camvid = StreetScenes("camera", 3, *SIZE, label_space=CAMVID11)
        table = np.array(CITYSCAPES19.lut_to(CAMVID11))
        for index in range(3):
            np.testing.assert_array_equal(camvid.label(index), table[plain.label(index)])
        assert camvid.label_space is CAMVID11

    def test_seeds_share_no_scenes(self) -> None:
        first, second = (StreetScenes("game", 3, 48, 64, seed=seed) for seed in (0, 1))
        images = [data.image(i).tobytes() for data in (first, second) for i in range(3)]
        assert len(set(images)) == 6

    def test_worker_processes_change_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        alone = StreetScenes("both", 3, 48, 64)
        shared = StreetScenes("both", 3, 48, 64)
        monkeypatch.setattr(street_scenes, "_WORTH_FORKING", 2)
        monkeypatch.setattr(street_scenes, "usable_cores", lambda: 2)
        shared.prepare()
        for index in range(3):
            np.testing.assert_array_equal(shared.image(index), alone.image(index))

    def test_without_processes_it_renders_itself(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def refuse(*args: object) -> object:
            raise WorkerDiedError("was killed by SIGKILL")

        monkeypatch.setattr(street_scenes, "_WORTH_FORKING", 2)
        monkeypatch.setattr(street_scenes, "usable_cores", lambda: 2)
        monkeypatch.setattr(street_scenes, "ordered_map", refuse)
        data = StreetScenes("game", 3, 48, 64)
        data.prepare()
        np.testing.assert_array_equal(data.image(0), StreetScenes("game", 3, 48, 64).image(0))
        said = capsys.readouterr().err.splitlines()[0]
        assert said.startswith(
            "warning: the processes that render scenes cannot go on (one was killed by SIGKILL)"
        )
        assert said.endswith("without them, which takes longer")

    @pytest.mark.parametrize(
        ("kwargs", "named"),
        [
            ({"look": "movie"}, "'movie'"),
            ({"count": 0}, "count 0"),
            ({"height": 20}, "20x"),
            ({"seed": -1}, "seed -1"),
        ],
    )
    def test_bad_arguments_are_named(self, kwargs: dict[str, object], named: str) -> None:
        with pytest.raises(InputError, match=named):
            StreetScenes(**kwargs)  # type: ignore[arg-type]

    def test_scenes_that_fit_nowhere_are_refused_at_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        many = StreetScenes("game", 10**9, 48, 64)
        with pytest.raises(InputError, match=r"1000000000 street scenes of 48x64 pixels take .* of memory"):
            many.require_memory()
        with pytest.raises(InputError, match="of memory"):
            open_dataset("street_scenes", count=10**9, height=48, width=64)
        with pytest.raises(RunFailedError, match=r"1000000000 scenes need .* and the disk has"):
            write_scenes(many, tmp_path / "scenes", "train")
        assert not (tmp_path / "scenes").exists()
        with pytest.raises(InputError, match="give 48 to 16000 for either side"):
            StreetScenes("game", 1, 60_000, 60_000)
        monkeypatch.setattr("iccld.data.street_scenes.free_memory", lambda: 10**9)
        with pytest.raises(
            InputError, match=r"take 16\.4 GB of memory to draw, and this process can have 1 GB"
        ):
            StreetScenes("game", 1, 16_000, 16_000)

    def test_render_scene_refuses_bad_arguments(self) -> None:
        with pytest.raises(ValueError, match="'film'"):
            render_scene(0, look="film", height=64, width=64)
        with pytest.raises(ValueError, match="height 8"):
            render_scene(0, look="game", height=8, width=64)


class TestCache:
    """Scenes are stored in a folder. With ``refuse_to_render``, each scene must be read from this folder."""

    @staticmethod
    def make(folder: Path | None, **changes: object) -> StreetScenes:
        options = {"look": "both", "count": 3, "height": 48, "width": 64, "seed": 4} | changes
        return StreetScenes(**options, cache=folder)  # type: ignore[arg-type]

    @pytest.fixture
    def refuse_to_render(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
        def refuse(*args: object, **kwargs: object) -> object:
            raise AssertionError("a scene was rendered")

        return lambda: monkeypatch.setattr(street_scenes, "render_scene", refuse)

    @pytest.mark.parametrize("folder", [str, Path])
    def test_the_second_time_nothing_is_rendered(
        self, folder: Callable[[Path], object], tmp_path: Path, refuse_to_render: Callable[[], None]
    ) -> None:
        plain, first = self.make(None), self.make(folder(tmp_path / "deep" / "scenes"))  # type: ignore[arg-type]
        plain.prepare()
        first.prepare()
        refuse_to_render()
        second = self.make(tmp_path / "deep" / "scenes")
        second.prepare()
        second.prepare()
        for data in (first, second):
            assert [data.file_name(i) for i in range(3)] == [plain.file_name(i) for i in range(3)]
            for index in range(3):
                for kind in ("image", "label"):
                    found, expected = getattr(data, kind)(index), getattr(plain, kind)(index)
                    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
                    assert found.tobytes() == expected.tobytes()
        assert first.image(0).flags.c_contiguous

    def test_without_a_cache_nothing_is_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        self.make(None, count=1).prepare()
        assert list(tmp_path.iterdir()) == []

    def test_labels_are_translated_on_the_way_out(
        self, tmp_path: Path, refuse_to_render: Callable[[], None]
    ) -> None:
        plain = self.make(tmp_path)
        plain.prepare()
        refuse_to_render()
        camvid = self.make(tmp_path, label_space=CAMVID11)
        camvid.prepare()
        table = np.array(CITYSCAPES19.lut_to(CAMVID11))
        for index in range(3):
            np.testing.assert_array_equal(camvid.label(index), table[plain.label(index)])
            assert (camvid.label(index) != plain.label(index)).any()

    @pytest.mark.parametrize(
        "changes", [{"look": "game"}, {"count": 2}, {"height": 50}, {"width": 66}, {"seed": 5}], ids=str
    )
    def test_other_scenes_are_not_taken_for_these(
        self, changes: dict[str, object], tmp_path: Path, refuse_to_render: Callable[[], None]
    ) -> None:
        self.make(tmp_path).prepare()
        refuse_to_render()
        with pytest.raises(AssertionError, match="a scene was rendered"):
            self.make(tmp_path, **changes).prepare()

    def test_scenes_of_another_generator_are_rendered_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuse_to_render: Callable[[], None]
    ) -> None:
        self.make(tmp_path, count=1).prepare()
        monkeypatch.setattr(street_scenes, "generator_digest", lambda: "0123456789ab")
        self.make(tmp_path, count=1).prepare()
        assert len(list(tmp_path.glob("*.npy"))) == 2
        refuse_to_render()
        self.make(tmp_path, count=1).prepare()

    def test_the_digest_follows_the_generators_code(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        digest = street_scenes.generator_digest.__wrapped__  # without functools.cache
        assert digest() == street_scenes.generator_digest()
        for path in ("render.py", "trees.py"):
            (tmp_path / path).write_text("one")
        monkeypatch.setattr(renderer, "__file__", str(tmp_path / "__init__.py"))
        seen = {digest()}
        for path in ("render.py", "trees.py", "bushes.py"):
            (tmp_path / path).write_text("two")
            seen.add(digest())
        assert len(seen) == 4
        assert digest() in seen

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        for folder in (tmp_path / "file", tmp_path / "file" / "scenes"):
            with pytest.raises(InputError, match=r"file.*; choose a folder that you may write to") as caught:
                self.make(folder, count=1).prepare()
            assert "\n" not in str(caught.value)

    def test_a_folder_that_must_not_be_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The lock raises the error of a read-only folder, since root may write to all folders."""

        def refuse(*args: object, **kwargs: object) -> object:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(street_scenes.FileLock, "acquire", refuse)
        with pytest.raises(InputError, match=tmp_path.name):
            self.make(tmp_path, count=1).prepare()

    def test_a_damaged_file_is_named(self, tmp_path: Path) -> None:
        self.make(tmp_path, count=1).prepare()
        (path,) = tmp_path.glob("*.npy")
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(InputError, match=path.name):
            self.make(tmp_path, count=1).prepare()


class TestExport:
    def test_files_are_laid_out_like_cityscapes(self, tmp_path: Path) -> None:
        words = [
            "data",
            "scenes",
            str(tmp_path),
            "--count",
            "2",
            "--height",
            "64",
            "--width",
            "96",
            "--split",
            "val",
        ]
        assert main(words) == 0
        scenes = StreetScenes("both", 2, 64, 96)
        for index, look in enumerate(("game", "camera")):
            stem = f"{look}_{index:06d}_000000"
            image = read_image(tmp_path / "leftImg8bit" / "val" / look / f"{stem}_leftImg8bit.png")
            ids = read_label(tmp_path / "gtFine" / "val" / look / f"{stem}_gtFine_labelIds.png")
            np.testing.assert_array_equal(image, scenes.image(index))
            back = np.vectorize(CITYSCAPES_ID_TO_TRAIN_ID.__getitem__)(ids)
            np.testing.assert_array_equal(back, scenes.label(index))

    def test_every_train_id_survives_the_way_there_and_back(self) -> None:
        table = label_id_table()
        assert [CITYSCAPES_ID_TO_TRAIN_ID[int(table[i])] for i in [*range(19), 255]] == [*range(19), 255]

    def test_an_interrupted_run_leaves_whole_files_and_goes_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, written = street_scenes.write_png, []

        def interrupted(path: Path, array: np.ndarray) -> Path:
            if len(written) == 3:
                raise KeyboardInterrupt
            written.append(path)
            return real(path, array)

        scenes = StreetScenes("both", 4, 48, 64)
        monkeypatch.setattr(street_scenes, "write_png", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_scenes(scenes, tmp_path, "train")
        found = sorted(p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".json")
        assert found == sorted(written)
        for path in found:
            assert read_label(path).shape[:2] == (48, 64) if "gtFine" in path.name else read_image(path).any()
        monkeypatch.setattr(street_scenes, "write_png", real)
        assert write_scenes(scenes, tmp_path, "train") == 3
        assert write_scenes(scenes, tmp_path, "train") == 0
        assert not list(tmp_path.rglob("*.tmp*"))

    def test_other_settings_are_refused(self, tmp_path: Path) -> None:
        write_scenes(StreetScenes("game", 1, 48, 64), tmp_path, "train")
        with pytest.raises(InputError, match="choose another folder"):
            write_scenes(StreetScenes("game", 1, 48, 80), tmp_path, "train")
        (tmp_path / "scenes_train.json").write_text("{")
        with pytest.raises(InputError, match="is not JSON"):
            write_scenes(StreetScenes("game", 1, 48, 64), tmp_path, "train")
        write_scenes(StreetScenes("game", 1, 48, 64), tmp_path, "val")
        assert json.loads((tmp_path / "scenes_val.json").read_text())["width"] == 64

    @pytest.mark.parametrize(
        "words", [["--count", "0"], ["--width", "16"], ["--split", "../x"], ["--seed", "-4"]]
    )
    def test_bad_flags_exit_with_2(
        self, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["data", "scenes", str(tmp_path / "out"), *words]) == 2
        error = capsys.readouterr().err
        assert error.startswith("iccld: error:")
        assert words[1] in error
        assert not (tmp_path / "out").exists()
