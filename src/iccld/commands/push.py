"""``iccld push``: uploads a model and its card to the Hugging Face hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg

from iccld.commands.flags import JsonFile, Model, OptionalFolder, OptionalName
from iccld.commands.output import human_text, write_result
from iccld.outputs import Places


@dataclass(frozen=True)
class PushArgs:
    """Uploads a model with a generated model card to a Hugging Face repository.

      iccld push runs/mine me/streets --private --license cc-by-nc-4.0
      iccld push runs/mine me/streets --folder card        # only writes the files: nothing is uploaded

    The card describes data, protocol, settings and limits, and contains the metrics from the run's files. The
    settings in the card do not contain folders of your machine. Log in with 'hf auth login' or set HF_TOKEN.
    """

    model: Model
    """Folder of a saved model, or a hub id."""
    repo: Annotated[Positional[str], arg(metavar="REPO")]
    """Repository, such as me/streets. A missing repository is created."""
    private: bool = False
    """Make a new repository private."""
    folder: OptionalFolder = None
    """Write the same files to this folder instead of uploading them. This requires neither network nor account."""
    license: OptionalName = None
    """License of the weights, by the license's name on the hub, such as cc-by-nc-4.0 or apache-2.0. By default, the
    card states no license, because the training data may restrict your choice."""
    json: JsonFile = None
    """JSON file for the URL of the repository and the names of the files."""

    def run(self) -> int:
        """Writes or uploads the files and returns the exit code."""
        from iccld.models.hub import check_repo_id, push_files
        from iccld.reporting.release import write_release

        check_repo_id(self.repo)
        Places(files={"--json": (self.json, "json")}, models=[self.model]).check()
        release = write_release(self.model, self.repo, license=self.license)
        facts = {"model": self.model, "repo": self.repo, "address": None, "folder": None}
        with human_text(self.json):
            if self.folder is not None:
                files = release(self.folder)
                facts["folder"] = str(self.folder)
                print(f"written, nothing sent: {self.folder}/ ({', '.join(files)})")
            else:
                facts["address"], files = push_files(release, self.repo, private=self.private)
                print(f"uploaded: {facts['address']} ({', '.join(files)})")
                print(f"predict with: iccld predict {self.repo} IMAGES --out OUT")
        write_result(self.json, {**facts, "files": files})
        return 0
