"""Everything the platform raises on purpose.

    CxrError                  exit code 2: something the user can put right
    ├── ConfigError           a profile, a sources.toml, an argument
    ├── SourceError           a collection: its folder, its layout, its tables
    ├── ImageRefused          one file that is not a usable image, with a reason code
    ├── ManifestError         a manifest that is absent, broken or of another schema
    │   ├── ManifestInvalid   the built manifest failed its expectations
    │   └── FoldError         the images cannot be split as asked
    ├── WeightsError          ImageNet weights not to be had, or not the published bytes
    ├── StudyError            a study folder that cannot be used
    │   ├── StudyMismatch     the study was started with another configuration or manifest
    │   ├── PredictionsError  a missing fold, a doubled or missing prediction
    │   ├── NotPossible       something that this study, its images or this machine do not allow to compute
    │   └── TrialsFailed      exit code 1: some trials failed, the others are stored
    ├── RegistryError         a registry of bundles that cannot be used
    │   ├── BundleError       a bundle that is absent, broken, changed or of another schema
    │   └── PromotionRefused  the present champion is better
    ├── ServingError          a server that cannot be started or reached
    ├── JobFailed             exit code 1: a job of a cluster that was submitted and failed or was stopped
    └── StorageError          a place that cannot be read or written

A text says what was expected, what was received and what to do next.
"""


class CxrError(Exception):
    """Base class. `problem` says what was expected, `received` what came instead, `advice` what to do."""

    exit_code = 2

    def __init__(self, problem: str, *, received: object = None, advice: str = "") -> None:
        self.problem = problem
        self.received = received
        self.advice = advice
        super().__init__(problem, received, advice)

    def __str__(self) -> str:
        received = "" if self.received is None else f" Received: {self.received}."
        return f"{self.problem}{received}{' ' + self.advice if self.advice else ''}"

    def __reduce__(self) -> tuple[object, ...]:
        """Keyword arguments survive the trip between Ray processes."""
        return _rebuild, (type(self), self.args, self.__dict__.copy())


def _rebuild(kind: type[CxrError], args: tuple[object, ...], state: dict[str, object]) -> CxrError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


def last_line(error: BaseException | str | None) -> str:
    """Return the last line of an exception or of a program's output, for a message of one line.

    Without text: the type of the exception, or "no error message".
    """
    return (_lines(error) or [_without_text(error)])[-1]


def first_line(error: BaseException) -> str:
    """Return the first line of an exception without its full stop, or its type if it has no text."""
    return (_lines(error) or [_without_text(error)])[0].rstrip(".")


def typed_line(error: BaseException) -> str:
    """Return the type of an exception and the first line of its text, for errors of any library."""
    return f"{type(error).__name__}: {first_line(error)}"


def _lines(error: BaseException | str | None) -> list[str]:
    return [line.strip() for line in str(error or "").splitlines() if line.strip()]


def _without_text(error: BaseException | str | None) -> str:
    return type(error).__name__ if isinstance(error, BaseException) else "no error message"


class ConfigError(CxrError):
    """A profile, a sources.toml or an argument that cannot be used."""


class SourceError(CxrError):
    """A collection whose folder, layout or table is not as published."""


class ImageRefused(CxrError):
    """One file that is not a usable image. `reason` is a code of `intake.candidate`, `detail` is for a person."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class ManifestError(CxrError):
    """A manifest that is absent, broken or of another schema version."""


class ManifestInvalid(ManifestError):
    """The built manifest failed its expectations; the previous one is untouched."""


class FoldError(ManifestError):
    """The images cannot be split into the folds asked for."""


class WeightsError(CxrError):
    """ImageNet weights are not to be had, or are not the published bytes."""


class StudyError(CxrError):
    """A study folder that cannot be used."""


class StudyMismatch(StudyError):
    """The study was started with another configuration or manifest."""


class PredictionsError(StudyError):
    """Stored predictions are incomplete or doubled."""


class NotPossible(StudyError):
    """A part of a report that the study, its images or this machine do not allow; the rest is written without it."""


class TrialsFailed(StudyError):
    """Some trials failed after their retries; what the others found is stored."""

    exit_code = 1


class RegistryError(CxrError):
    """A registry of bundles that is absent, broken, or has no such version."""


class BundleError(RegistryError):
    """A bundle that is absent, broken, of another schema, or of which a byte has changed."""


class PromotionRefused(RegistryError):
    """The version would be a worse champion than the present one."""


class ServingError(CxrError):
    """A server that cannot be started or reached, or that refuses what was asked of it."""


class JobFailed(CxrError):
    """A job of a cluster that was submitted, and failed or was stopped."""

    exit_code = 1


class StorageError(CxrError):
    """A place that cannot be read or written."""
