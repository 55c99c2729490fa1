"""Networks on sequences without attention: recurrent, packed, bilinear."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from tests.support.architectures.record import Architecture
from tests.support.architectures.sequence import VOCABULARY, classified, labelled, padded_tokens


class LastState(nn.Module):
    """A recurrent network, classified from the last state of its last layer."""

    def __init__(self, recurrent: nn.RNNBase, time_first: bool = False) -> None:
        super().__init__()
        self.recurrent, self.time_first = recurrent, time_first
        self.head = nn.Linear(recurrent.hidden_size, 5)

    def forward(self, x: Tensor) -> Tensor:
        state = self.recurrent(x.transpose(0, 1) if self.time_first else x)[1]
        return self.head((state[0] if isinstance(state, tuple) else state)[-1])


class Tagger(nn.Module):
    """Embedding, two bidirectional layers with dropout between, the mean of all outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 4)
        self.lstm = nn.LSTM(4, 3, num_layers=2, dropout=0.3, bidirectional=True, batch_first=True)
        self.head = nn.Linear(6, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.lstm(self.embedding(tokens))[0].mean(1))


class Packed(nn.Module):
    """Sequences of different lengths in one packed tensor, whose rows are sorted by time."""

    def __init__(self, kind: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.project = nn.Linear(3, 4)
        self.recurrent = kind(4, 3, batch_first=True)
        self.head = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        lengths = torch.tensor([2, 5, 3, 5])
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        data = torch.tanh(self.project(packed.data))
        inner = PackedSequence(
            data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices
        )
        state = self.recurrent(inner)[1]
        return self.head((state[0] if isinstance(state, tuple) else state)[-1])


class Mixed(nn.Module):
    """Bilinear map of neighbours, learned slopes, and parameters that belong to no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = nn.Bilinear(3, 3, 4)
        self.each, self.one = nn.PReLU(4), nn.PReLU()
        self.weight = nn.Parameter(torch.randn(4, 4) / 2)
        self.temperature = nn.Parameter(torch.ones(()))
        self.score = nn.Parameter(torch.randn(4))
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.pair(x[:, :-1], x[:, 1:])
        h = self.each(h.transpose(1, 2)).transpose(1, 2)
        h = self.one(torch.einsum("bti,io->bto", h, self.weight))
        attention = torch.softmax(h @ self.score / self.temperature, dim=1)
        return self.head(torch.einsum("bt,bto->bo", attention, h))


class Bags(nn.Module):
    """Two bags of words per text: a mean, and a sum weighted by a learned score of each word."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.EmbeddingBag(VOCABULARY, 4, mode="mean", padding_idx=0)
        self.sum = nn.EmbeddingBag(VOCABULARY, 4, mode="sum")
        self.scores = nn.Embedding(VOCABULARY, 1)
        self.head = nn.Linear(4, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        # The second layout of the class: all words in one row, and where each text begins.
        offsets = torch.arange(len(tokens)) * tokens.shape[1]
        scores = self.scores(tokens.flatten()).squeeze(1).sigmoid()
        weighted = self.sum(tokens.flatten(), offsets, per_sample_weights=scores)
        return self.head(torch.tanh(self.mean(tokens) + weighted))


def _signals() -> Tensor:
    return torch.randn(4, 5, 3)


RECURRENT = [
    Architecture(
        "lstm",
        lambda: LastState(nn.LSTM(3, 4, batch_first=True)),
        labelled(_signals),
        classified,
    ),
    Architecture(
        "gru, time first",
        lambda: LastState(nn.GRU(3, 4), time_first=True),
        labelled(_signals),
        classified,
    ),
    Architecture(
        "bidirectional lstm, two layers", Tagger, labelled(padded_tokens), classified, random=True
    ),
    Architecture("packed lstm", lambda: Packed(nn.LSTM), labelled(_signals), classified),
    Architecture("packed gru", lambda: Packed(nn.GRU), labelled(_signals), classified),
    Architecture("bilinear, slopes, free parameters", Mixed, labelled(_signals), classified),
    Architecture("embedding bags", Bags, labelled(padded_tokens), classified),
]
