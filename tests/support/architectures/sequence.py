"""Networks on sequences with attention: language models, encoders and decoders, adapters."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.architectures.record import Architecture
from tests.support.architectures.vision import AttentionBlock

PADDING = 0
VOCABULARY = 11
LONGEST = 6


def causal_mask(length: int) -> Tensor:
    """True where a position may not look, shape [t, t]: it has no batch dimension."""
    return torch.ones(length, length, dtype=torch.bool).triu(1)


class CausalBlock(AttentionBlock):
    """Pre-norm block that looks back only."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__(dim, heads, dropout)
        self.mask = causal_mask(LONGEST)

    def attend(self, x: Tensor) -> Tensor:
        mask = self.mask[: x.shape[1], : x.shape[1]]
        return self.attention(x, x, x, attn_mask=mask, need_weights=False)[0]


class LanguageModel(nn.Module):
    """Causal language model whose head is its embedding, with learned positions."""

    def __init__(self, dim: int = 8, dropout: float = 0.1) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, dim, padding_idx=PADDING)
        self.positions = nn.Embedding(LONGEST, dim)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(CausalBlock(dim, 2, dropout), CausalBlock(dim, 2, dropout))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, VOCABULARY, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1])[None]
        h = self.dropout(self.embedding(tokens) + self.positions(places))
        return self.head(self.norm(self.blocks(h)))


class Encoder(nn.Module):
    """nn.TransformerEncoder with a causal mask and a mask of padded keys, pooled over the rest."""

    def __init__(self, dim: int = 8, norm_first: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, dim, padding_idx=PADDING)
        layer = nn.TransformerEncoderLayer(
            dim, 2, 12, dropout=0.1, batch_first=True, norm_first=norm_first
        )
        self.encoder = nn.TransformerEncoder(
            layer, 2, norm=nn.LayerNorm(dim), enable_nested_tensor=False
        )
        self.head = nn.Linear(dim, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        padded = tokens == PADDING
        h = self.encoder(
            self.embedding(tokens), mask=causal_mask(tokens.shape[1]), src_key_padding_mask=padded
        )
        return self.head((h * ~padded[..., None]).sum(1) / (~padded).sum(1, keepdim=True))


class Translator(nn.Module):
    """nn.TransformerDecoder on a memory with padded keys; time first, as torch's default is."""

    def __init__(self, dim: int = 8) -> None:
        super().__init__()
        self.source = nn.Embedding(VOCABULARY, dim, padding_idx=PADDING)
        self.target = nn.Embedding(VOCABULARY, dim)
        layer = nn.TransformerDecoderLayer(dim, 2, 12, dropout=0.1, activation="gelu")
        self.decoder = nn.TransformerDecoder(layer, 2)
        self.head = nn.Linear(dim, VOCABULARY)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        h = self.decoder(
            self.target(target.T),
            self.source(source.T),
            tgt_mask=causal_mask(target.shape[1]),
            memory_key_padding_mask=source == PADDING,
        )
        return self.head(h).transpose(0, 1)


@dataclass
class ModelOutput:
    """What a model of the hub returns: some fields are filled, others None."""

    logits: Tensor
    loss: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class HubModel(nn.Module):
    """Classifier in the manner of the model hubs: keywords, optional arguments, a record out."""

    def __init__(self, dim: int = 8) -> None:
        super().__init__()
        self.embeddings = nn.ModuleDict(
            {
                "words": nn.Embedding(VOCABULARY, dim, padding_idx=PADDING),
                "places": nn.Embedding(LONGEST, dim),
                "kinds": nn.Embedding(2, dim),
            }
        )
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, 2, 12, dropout=0.1, batch_first=True) for _ in range(2)
        )
        self.pooler, self.classifier = nn.Linear(dim, dim), nn.Linear(dim, 5)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool = False,
        **ignored: Any,
    ) -> ModelOutput:
        h = self.embeddings["words"](input_ids) if inputs_embeds is None else inputs_embeds
        places = torch.arange(h.shape[1])[None]
        kinds = torch.zeros_like(places) if token_type_ids is None else token_type_ids
        h = h + self.embeddings["places"](places) + self.embeddings["kinds"](kinds)
        padded = None if attention_mask is None else attention_mask == 0
        states = [h]
        for layer in self.layers:
            states.append(layer(states[-1], src_key_padding_mask=padded))
        logits = self.classifier(torch.tanh(self.pooler(states[-1][:, 0])))
        loss = None if labels is None else F.cross_entropy(logits, labels, reduction="none")
        return ModelOutput(logits, loss, tuple(states) if output_hidden_states else None)


class LowRank(nn.Module):
    """A frozen linear layer and a trainable update of low rank."""

    def __init__(self, frozen: nn.Linear, rank: int = 2) -> None:
        super().__init__()
        self.frozen = frozen.requires_grad_(False)
        self.down = nn.Linear(frozen.in_features, rank, bias=False)
        self.up = nn.Linear(rank, frozen.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.frozen(x) + self.up(F.dropout(self.down(x), 0.1))


def adapted() -> nn.Module:
    """Frozen language model with adapters in its perceptrons."""
    model = LanguageModel().requires_grad_(False)
    for block in model.blocks:
        mlp = block.get_submodule("mlp")
        for name, layer in list(mlp.named_children()):
            if isinstance(layer, nn.Linear):
                mlp.add_module(name, LowRank(layer))
    return model


def padded_tokens() -> Tensor:
    """Sequences of different lengths, filled up, shape [4, 6]."""
    tokens = torch.randint(1, VOCABULARY, (4, LONGEST))
    lengths = torch.tensor([6, 3, 5, 2])
    return tokens.masked_fill(torch.arange(LONGEST) >= lengths[:, None], PADDING)


def language(model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """Mean cross entropy of each sequence's next tokens, padding left out, shape [b]."""
    (tokens,) = inputs
    targets = tokens[:, 1:]
    logits = model(tokens[:, :-1]).transpose(1, 2)
    each = F.cross_entropy(logits, targets, ignore_index=PADDING, reduction="none")
    return each.sum(1) / (targets != PADDING).sum(1)


def classified(model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """Cross entropy of each sequence, shape [b]."""
    *sequences, labels = inputs
    return F.cross_entropy(model(*sequences), labels, reduction="none")


def translated(model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """Mean cross entropy of each target sequence, shape [b]."""
    source, target = inputs
    logits = model(source, target[:, :-1]).transpose(1, 2)
    return F.cross_entropy(logits, target[:, 1:], reduction="none").mean(1)


def hub_losses(model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """The model's own loss and a penalty on a hidden state, shape [b]."""
    tokens, labels = inputs
    mask = (tokens != PADDING).long()
    output = model(tokens, attention_mask=mask, labels=labels, output_hidden_states=True)
    return output.loss + output.hidden_states[1].square().mean((1, 2)) / 10


def labelled(draw: Callable[[], Tensor]) -> Callable[[], tuple[Tensor, ...]]:
    """Adds a label in 0…4 to each of four sequences."""
    return lambda: (draw(), torch.randint(5, (4,)))


def _pairs() -> tuple[Tensor, ...]:
    return padded_tokens(), torch.randint(1, VOCABULARY, (4, 5))


SEQUENCES = [
    Architecture(
        "causal language model", LanguageModel, lambda: (padded_tokens(),), language, random=True
    ),
    Architecture(
        "causal language model without dropout",
        lambda: LanguageModel(dropout=0.0),
        lambda: (padded_tokens(),),
        language,
    ),
    Architecture("low-rank adapters", adapted, lambda: (padded_tokens(),), language, random=True),
    Architecture("encoder", Encoder, labelled(padded_tokens), classified, random=True),
    Architecture(
        "encoder, norm first",
        lambda: Encoder(norm_first=True),
        labelled(padded_tokens),
        classified,
        random=True,
    ),
    Architecture("decoder, time first", Translator, _pairs, translated, random=True),
    Architecture("hub model", HubModel, labelled(padded_tokens), hub_losses, random=True),
]
