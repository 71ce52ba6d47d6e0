"""The tables of losses and penalties; a member lives in a file of its own."""

from flaxgan.registry import Table

ADVERSARIAL = Table(
    "loss.adversarial",
    {
        "minimax": "flaxgan.losses.minimax:MINIMAX",
        "nonsaturating": "flaxgan.losses.minimax:NONSATURATING",
        "hinge": "flaxgan.losses.hinge:HINGE",
        "least_squares": "flaxgan.losses.least_squares:LEAST_SQUARES",
        "rpgan": "flaxgan.losses.rpgan:RPGAN",
    },
    kind="flaxgan.losses.adversarial:AdversarialLoss",
    group="flaxgan.adversarial_losses",
)

PENALTIES = Table(
    "loss.penalty",
    {
        "none": "flaxgan.losses.penalty_terms:NONE",
        "ma_gp": "flaxgan.losses.penalty_terms:MA_GP",
        "r1": "flaxgan.losses.penalty_terms:R1",
        "r1_r2": "flaxgan.losses.penalty_terms:R1_R2",
        "r1_r2_fd": "flaxgan.losses.penalty_terms:R1_R2_FD",
    },
    kind="flaxgan.losses.penalty_terms:PenaltyTerm",
    group="flaxgan.penalties",
)
