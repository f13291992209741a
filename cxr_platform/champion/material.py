"""What a bundle is made from: a finished study, its manifest, and the champion trained on all images of that."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_platform.config import Profile
from cxr_platform.domain.study import StudyRecord
from cxr_platform.errors import StudyMismatch
from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.manifest.store import Manifest
from cxr_platform.registry.bundle import Preprocessing

if TYPE_CHECKING:
    from cxr_platform.training.champion import Champion
    from cxr_platform.training.data import StudyData


@dataclass(frozen=True, eq=False)
class ChampionMaterial:
    """`folder` is that of the study, `data` its images in the order of the manifest, at the network's input size."""

    folder: Path
    study: StudyRecord
    predictions: Predictions
    profile: Profile
    manifest: Manifest
    data: "StudyData"
    champion: "Champion"

    @property
    def strategy(self) -> str:
        """The champion's."""
        return self.champion.record.strategy

    @property
    def preprocessing(self) -> Preprocessing:
        """The settings of the manifest, which may differ from those of the study's profile."""
        config = self.manifest.info.config
        return Preprocessing(
            decoding=config.decoding,
            quality=config.quality,
            input_size=self.profile.model.input_size,
        )

    def check(self, strategy: str) -> None:
        """Raises `StudyMismatch` for a champion of another strategy, or of another manifest than the study's."""
        wanted = {"strategy": strategy, "manifest": self.study.manifest.content_hash}
        received = {key: self.champion.record.identity[key] for key in wanted}
        if wanted != received:
            raise StudyMismatch(
                f"Expected a champion of {strategy}, trained on the images of study {self.study.name!r}, manifest "
                f"{wanted['manifest']}.",
                received=f"one of {received['strategy']}, manifest {received['manifest']}",
                advice="Remove the champion's folder and run the same command again.",
            )
