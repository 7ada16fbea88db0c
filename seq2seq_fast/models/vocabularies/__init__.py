"""From text to a model's token ids and back.

A tokenizer's file cuts text into pieces, which are strings; a vocabulary's file says which id the
model has for each piece. SentencePiece's models of Marian are both in one.
"""

from .finding import FilePath, find_vocabulary
from .vocabulary import TextVocabulary, Vocabulary

__all__ = ["FilePath", "TextVocabulary", "Vocabulary", "find_vocabulary"]
