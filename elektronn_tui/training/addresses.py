"""Whether the files behind the addresses of volumes are there."""

from __future__ import annotations

from elektronn_tui.errors import ExperimentError

from .arrays import check_file

__all__ = ["check_address", "file_of", "names_volume"]


def check_address(address: str, path: str | None = None, setting: str = "data.volumes") -> None:
    """Refuse the address of a volume where there is no file or folder.

    Parameters
    ----------
    address : str
        As for `elektronn_tui.data.open_source`.
    path : str, optional
        The setting ``data.path``: what lies in this file is told of that setting.
    setting : str
        Where else the address comes from.

    Raises
    ------
    ExperimentError
    """
    from elektronn_tui.data.knossos import is_knossos, knossos_path
    from elektronn_tui.data.sources import sections_folder
    from elektronn_tui.data.stores import is_store

    if is_store(address):
        _check_store(address)
    elif is_knossos(address):
        if not knossos_path(address).exists():
            raise ExperimentError(f"{setting}: there is no file or folder {knossos_path(address).absolute()}")
    elif path is not None and address.startswith(f"{path}:"):
        check_file(path, "volume.h5")
    elif (folder := sections_folder(address)) is not None:
        if not folder.is_dir():
            raise ExperimentError(f"{setting}: there is no folder {folder.absolute()} for the sections of {address}")
    else:
        check_file(file_of(address), "volume.h5", setting=setting)


def names_volume(text: str) -> bool:
    """Tell whether a text is the address of a volume of its own by its suffix or scheme, not the key of a dataset."""
    from elektronn_tui.data.knossos import names_knossos
    from elektronn_tui.data.sources import names_file
    from elektronn_tui.data.stores import is_store

    return is_store(text) or names_knossos(text) or names_file(text)


def _check_store(address: str) -> None:
    """Refuse a folder of chunks that isn't there; what lies behind a URL is seen when it is opened."""
    from elektronn_tui.data.stores import local_path

    path = local_path(address)
    if path is not None and not path.is_dir():
        raise ExperimentError(f"data: there is no folder {path.absolute()}, the store of {address}")


def file_of(address: str) -> str:
    """Return the file of ``FILE:KEY``."""
    from elektronn_tui.data.sources import split_address

    return split_address(address)[0]
