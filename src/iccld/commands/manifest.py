"""``iccld data manifest``: lists images once, for commands that are called many times."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from iccld.commands import flags
from iccld.commands.output import human_text, print_failures, write_result
from iccld.errors import InputError
from iccld.outputs import Places, places_of
from iccld.remote import shown


@dataclass(frozen=True)
class DataManifestArgs:
    """Lists images in a Parquet file, which predict, rank and --data.target-root accept instead of a folder.

    Example: iccld data manifest s3://fleet/frames --out s3://fleet/frames.parquet

    The columns are path, name (of the outputs), stamp (identifies an object in storage), width, height and hash.
    """

    inputs: flags.Inputs
    """Images, glob patterns, folders or URLs in object storage."""
    out: Path = Path("frames.parquet")
    """Parquet file to write, or its URL. Images below its folder are listed with relative paths."""
    hash: bool = False
    """Read every file and store its SHA-256."""
    json: flags.JsonFile = None
    """JSON file for the number of images and the failures."""

    def run(self) -> int:
        """Writes the manifest and returns the exit code, which is 1 if some images cannot be read."""
        from iccld.data.inputs import find_inputs, split_inputs
        from iccld.data.manifest import SUFFIX, write_manifest

        if self.out.suffix != SUFFIX:
            raise InputError(f"--out {self.out}: must end in {SUFFIX}")
        data = [place for place in places_of(self.inputs) if place.is_file()]
        Places(files={"--json": (self.json, "json"), "--out": (self.out, "parquet")}, data=data).check()
        images, videos = split_inputs(find_inputs(self.inputs))
        if videos:
            raise InputError(f"{videos[0].title}: is a video, and a manifest lists images; name the images")
        with human_text(self.json):
            failures = write_manifest(self.out, images, hashes=self.hash)
            print(f"{len(images) - len(failures)} images listed: {shown(self.out)}")
        facts = {"out": shown(self.out), "images": len(images) - len(failures), "failures": failures}
        write_result(self.json, facts)
        print_failures(f"{len(failures)} of {len(images)} images cannot be read and are left out", failures)
        return 1 if failures else 0
