"""The files that a table names, despite differences in extension, letter case, Unicode form and leading folders."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

_EXTENSION = re.compile(r"\.(png|jpe?g|dcm|dicom|dic|tiff?|bmp|webp|gif|jp2|nii|gz|zip)$")


class FileNames:
    """Finds files by the name that a table gives them.

    A name with folders is compared with the paths of files: it may have more leading folders than the path, or fewer.
    A name without folders is compared with the names of files in any folder. Of several files, those that are spelled
    as in the table count; then those that differ in extension, letter case or Unicode form (NFC, NFD).
    """

    def __init__(self, files: Iterable[str]) -> None:
        self._files = frozenset(files)
        self._by_ending: defaultdict[str, list[str]] = defaultdict(list)
        for file in sorted(self._files):
            for ending in _endings(self.fold(file)):
                self._by_ending[ending].append(file)

    def find(self, name: str) -> list[str]:
        """Return the files that `name` may mean; empty if there is none."""
        name = normal_path(name)
        if "/" in name and name in self._files:
            return [name]
        for ending in _endings(name):
            files = self._by_ending.get(self.fold(ending), [])
            whole = [file for file in files if self.fold(file) == self.fold(ending)]
            if "/" in name and "/" not in ending:
                return whole  # the bare name of a path is only the name of a file that lies in no folder
            if files:
                spelled = [file for file in files if self.is_exact(ending, file)]
                return spelled or (whole if "/" in ending else files)
        return []

    @staticmethod
    def is_exact(name: str, file: str) -> bool:
        """Return True if `file` is spelled as in `name`, except for leading folders of either."""
        name = normal_path(name)
        return file == name or file.endswith(f"/{name}") or ("/" in file and name.endswith(f"/{file}"))

    @staticmethod
    def fold(name: str) -> str:
        """Return `name` in one Unicode form and letter case, without the extension of an image."""
        text = name if name.isascii() else unicodedata.normalize("NFC", name)
        return _EXTENSION.sub("", text.casefold())


def normal_path(name: str) -> str:
    """Return a path of a table with forward slashes and without `./` before it."""
    return name.strip().replace("\\", "/").removeprefix("./").lstrip("/")


def _endings(path: str) -> Iterable[str]:
    """Yield `path`, then `path` without its first folder, and so on to the bare name."""
    yield path
    while "/" in path:
        path = path.partition("/")[2]
        yield path
