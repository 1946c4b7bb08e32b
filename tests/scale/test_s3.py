"""S3: prediction, evaluation and training with a real server, and the errors of a server."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import webdataset
from servers import free_port, use, wait_for

from iccld.cli import main
from iccld.data.datasets import open_dataset
from iccld.labels import CAMVID11, CITYSCAPES19
from iccld.models.iccld import ICCLD

NUM_IMAGES = 200


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    ICCLD(CAMVID11, width=16, latent_channels=4).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("camvid")
    rng = np.random.default_rng(0)
    for number in range(NUM_IMAGES):
        labels = np.kron(rng.choice([0, 1, 2, 8, 255], (5, 8)), np.ones((8, 8))).astype(np.uint8)
        image = rng.integers(0, 256, (*labels.shape, 3), dtype=np.uint8)
        for split in ("train", "val"):
            for kind, picture in (("images", image), ("labels", labels)):
                path = root / split / kind / f"drive {number % 3}" / f"{number:03d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                assert cv2.imwrite(str(path), picture)
    return root


def start(*words: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "iccld", *map(str, words), "--threads", "1", "--device", "cpu"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})


def run(*words: object) -> None:
    assert main([*map(str, words), "--threads", "1", "--device", "cpu"]) == 0


def upload(folder: Path, place: str) -> None:
    """Uploads a folder to ``s3://place`` with fsspec, since a server may not see files that are copied on disk."""
    script = "import fsspec, sys; fsspec.filesystem('s3').put(sys.argv[1] + '/', sys.argv[2] + '/', recursive=True)"
    subprocess.run([sys.executable, "-c", script, folder, place], check=True, timeout=120)


def label_maps(folder: Path) -> dict[str, bytes]:
    paths = (folder / "labels").rglob("*.png")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_local_folder_and_s3_give_equal_bytes(s3: Path, model: Path, data: Path, tmp_path: Path) -> None:
    """Two processes predict one shard each from S3 to S3. One of them is killed and started again."""
    upload(data, "bucket/camvid")
    upload(model, "bucket/model")
    kinds = ("--write", "labels", "table")
    run("predict", model, data / "val" / "images", "--out", tmp_path / "out", *kinds)
    words = (
        "predict",
        "s3://bucket/model",
        "s3://bucket/camvid/val/images",
        "--out",
        "s3://bucket/out",
        *kinds,
    )
    shards = [start(*words, "--shard", f"{number}/2") for number in range(2)]
    deadline = time.monotonic() + 120
    while not list((s3 / "out").rglob("labels/**/*.png")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    shards[0].send_signal(signal.SIGKILL)
    shards[0].wait()
    shards[0] = start(*words, "--shard", "0/2")
    assert [process.wait(timeout=300) for process in shards] == [0, 0]
    assert label_maps(s3 / "out") == label_maps(tmp_path / "out")
    assert len(label_maps(s3 / "out")) == NUM_IMAGES
    done = [json.loads(path.read_text())["images"] for path in (s3 / "out" / "_done").rglob("*.json")]
    names = [name for images in done for name in images]
    assert len(names) == len(set(names)) == NUM_IMAGES


def test_evaluation_of_a_data_set_in_s3(s3: Path, model: Path, data: Path, tmp_path: Path) -> None:
    upload(data, "bucket/evaluated")
    words = ("evaluate", model, "--dataset", "camvid", "--split", "val", "--limit", "20")
    run(*words, "--root", data, "--json", tmp_path / "s.json")
    run(*words, "--root", "s3://bucket/evaluated", "--json", "s3://bucket/scores/s.json")
    one, other = (json.loads(path.read_text()) for path in (tmp_path / "s.json", s3 / "scores" / "s.json"))
    assert {**one, "root": ""} == {**other, "root": ""}


def test_webdataset_reads_the_archives(data: Path, tmp_path: Path) -> None:
    assert main(["data", "shards", "camvid", str(data), "--out", str(tmp_path), "--frames", "64"]) == 0
    urls = sorted(map(str, (tmp_path / "val").glob("*.tar")))
    assert len(urls) == 4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # WebDataset does not close its last file
        frames = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
        gc.collect()
    dataset = open_dataset("camvid", data, split="val", label_space=CITYSCAPES19)
    assert len(frames) == len(dataset) == NUM_IMAGES
    for index, frame in enumerate(frames):
        assert frame["json"]["name"] == dataset.file_name(index)
        np.testing.assert_array_equal(frame["image.png"], dataset.image(index))
        shown = np.array([*CITYSCAPES19.palette, *[(0, 0, 0)] * 237], np.uint8)[dataset.label(index)]
        np.testing.assert_array_equal(frame["label.png"], shown)  # WebDataset shows the colors of the palette


def test_training_on_a_target_in_s3(s3: Path, data: Path, tmp_path: Path) -> None:
    upload(data, "bucket/trained")
    words = (
        *("train", "demo", "--steps", "2"),
        *("--data.crop", "32", "64", "--data.source-size", "40", "64", "--data.target-size", "40", "64"),
        *("--data.batch-size", "1", "--data.label-space", "camvid11", "--model.backbone", "compact"),
        *("--model.width", "16", "--precision", "fp32", "--eval-images", "2"),
    )
    assert (
        main(["data", "shards", "camvid", str(data), "--out", str(tmp_path / "tars"), "--frames", "64"]) == 0
    )
    upload(tmp_path / "tars", "bucket/packed")
    places = {"disk": data, "s3": "s3://bucket/trained", "packed": "s3://bucket/packed"}
    for name, root in places.items():
        for domain in ("source", "target"):
            kind = "folder" if name == "packed" else "camvid"
            words = (*words, f"--data.{domain}", kind, f"--data.{domain}-root", root)
        run(*words, "--out", tmp_path / name)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in places]
    assert weights[0] == weights[1] == weights[2]
    record = "".join(path.read_text() for path in (tmp_path / "s3").glob("*.json"))
    assert "test-secret" not in record
    assert "test-key" not in record


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://gone/images", "s3://gone/images: no such file or folder; check bucket and path"),
        ("s3://bucket/gone", "s3://bucket/gone: no such file or folder; check bucket and path"),
    ],
)
def test_what_is_missing_is_one_line(
    url: str, said: str, s3: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(model), url, "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def refused(model: Path, out: Path) -> str:
    """Predicts images in S3, and returns the one line of the error."""
    command = [sys.executable, "-m", "iccld", "predict", model, "s3://bucket/model", "--out", out]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    return ended.stderr


def test_wrong_credentials_are_one_line(
    s3: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    error = refused(model, tmp_path / "out")
    assert "wrong-secret" not in error
    assert "s3://bucket/model" in error


def test_a_server_that_is_not_there_is_one_line(
    s3: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(f"http://127.0.0.1:{free_port()}", monkeypatch)
    assert "cannot be reached" in refused(model, tmp_path / "out")


def test_a_second_implementation_of_s3(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server of moto, which has other errors and tags than rclone."""
    port = free_port()
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        wait_for(port, server)
        use(f"http://127.0.0.1:{port}", monkeypatch)
        monkeypatch.setenv("ICCLD_CACHE", str(tmp_path / "copies"))
        script = "import fsspec; fsspec.filesystem('s3').mkdir('other')"
        subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
        images = data / "val" / "images" / "drive 0"
        upload(images, "other/images")
        predict = ("predict", model, "s3://other/images", "--out", "s3://other/out", "--write", "labels")
        assert start(*predict).wait(timeout=120) == 0
        script = (
            "import fsspec, sys; fsspec.filesystem('s3').get('other/out/', sys.argv[1] + '/', recursive=True)"
        )
        subprocess.run([sys.executable, "-c", script, tmp_path / "got"], check=True, timeout=120)
        run("predict", model, images, "--out", tmp_path / "out", "--write", "labels")
        assert label_maps(tmp_path / "got") == label_maps(tmp_path / "out") != {}
        command = [
            sys.executable,
            "-m",
            "iccld",
            *map(str, predict[:2]),
            "s3://gone/images",
            "--out",
            tmp_path / "o",
        ]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
        server.terminate()
    assert ended.returncode == 2
    assert "s3://gone/images: no such file or folder" in ended.stderr
