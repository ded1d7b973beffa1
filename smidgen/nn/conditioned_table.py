"""A vector per image becomes a table of numbers per image: by one dense layer, or by a factorized one of low rank.

The factorized form writes the dense layer's weight, a tensor of rows x columns x channels, as a sum of `rank` outer
products (canonical polyadic decomposition; Kolda and Bader, "Tensor Decompositions and Applications", 2009, section 3).
For 900 x 150 numbers from 256 channels it holds 0.22 M parameters in place of 34.7 M.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from smidgen.nn.initialize import xavier_linear


class DenseTable(nn.Module):
    """Every entry is a linear function of its own of the vector. Biases start as N(0, 1): rows differ from the
    beginning.
    """

    def __init__(self, num_rows: int, num_columns: int, width: int) -> None:
        super().__init__()
        self.num_rows, self.num_columns = num_rows, num_columns
        self.fc2 = xavier_linear(width, num_rows * num_columns)
        nn.init.normal_(self.fc2.bias)

    def forward(self, vector: Float[Tensor, "B C"]) -> Float[Tensor, "B rows columns"]:
        """The table, row after row."""
        return self.fc2(vector).unflatten(1, (self.num_rows, self.num_columns))


class FactorizedTable(nn.Module):
    """Entry (i, j) is b_ij + sum_r A_ir (C vector)_r E_jr: rows and columns meet in `rank` numbers that the vector
    weighs.

    Parameters carry the letters of the formula. b starts as N(0, 1): rows differ from the beginning.
    """

    def __init__(self, num_rows: int, num_columns: int, width: int, rank: int = 64) -> None:
        super().__init__()
        self.num_rows, self.num_columns = num_rows, num_columns
        self.A = nn.Parameter(torch.randn(num_rows, rank) * rank**-0.5)
        self.E = nn.Parameter(torch.randn(num_columns, rank) * rank**-0.5)
        self.C = nn.Parameter(nn.init.xavier_uniform_(torch.empty(rank, width)))
        self.b = nn.Parameter(torch.randn(num_rows, num_columns))

    def forward(self, vector: Float[Tensor, "B C"]) -> Float[Tensor, "B rows columns"]:
        """The table."""
        weighted = self.A * (vector @ self.C.T)[:, None]
        return self.b + weighted @ self.E.T
