"""Programs broken on purpose: each forgets one rule. The simulation has to notice, or it proves nothing."""

from tests.simulation.mutants import agent, charging, controllers, ledger
from tests.simulation.mutants.mutant import Edit, Mutant
from tests.simulation.mutants.seeds import SEEDS

MUTANTS = (*agent.MUTANTS, *ledger.MUTANTS, *charging.MUTANTS, *controllers.MUTANTS)

__all__ = ["MUTANTS", "SEEDS", "Edit", "Mutant"]
