"""BianQue: Chinese medical chat models that ask before they advise, on a current stack."""

__version__ = "0.1.0"
