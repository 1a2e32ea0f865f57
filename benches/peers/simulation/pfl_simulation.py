"""pfl-research, one process of one thread: `pfl_simulation.py CASE ROUNDS FOLDER`. Clipping and noise by its central Gaussian mechanism."""

import sys

import torch
from common import BATCH, CASES, CLIP_NORM, LEARNING_RATE, NOISE_MULTIPLIER, Clock, build, client_data, load
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data import FederatedDataset
from pfl.data.dataset import Dataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam.base import NNEvalHyperParams, NNTrainHyperParams
from pfl.internal.ops.selector import set_framework_module
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from pfl.privacy import CentrallyAppliedPrivacyMechanism, GaussianMechanism


class Network(torch.nn.Module):
    def __init__(self, case):
        super().__init__()
        self.inner = build(case)

    def loss(self, features, labels, is_eval=False):
        return torch.nn.functional.cross_entropy(self.inner(features), labels)

    def metrics(self, features, labels):
        return {"loss": Weighted(self.loss(features, labels).item(), 1)}


class Watch(TrainingProcessCallback):
    def __init__(self, clock):
        self.clock = clock

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        self.clock.tick()
        return False, Metrics()


def main():
    case, rounds, folder = sys.argv[1:]
    from pfl.internal.ops import pytorch_ops

    set_framework_module(pytorch_ops)
    torch.set_num_threads(1)
    n_clients, cohort = CASES[case]
    data = load(folder)
    sampler = get_user_sampler("minimize_reuse", list(range(n_clients)))
    training = FederatedDataset(lambda client: Dataset(client_data(data, client), user_id=str(client)), sampler)
    network = Network(case)
    model = PyTorchModel(network, torch.optim.SGD, torch.optim.SGD(network.parameters(), lr=1.0))
    # Its standard deviation is relative to the clipping bound, on the sum.
    mechanism = CentrallyAppliedPrivacyMechanism(GaussianMechanism(CLIP_NORM, NOISE_MULTIPLIER))
    backend = SimulatedBackend(training_data=training, val_data=None, postprocessors=[mechanism])
    clock = Clock()
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=int(rounds), evaluation_frequency=10**9, train_cohort_size=cohort, val_cohort_size=None
        ),
        backend=backend,
        model=model,
        model_train_params=NNTrainHyperParams(local_num_epochs=1, local_learning_rate=LEARNING_RATE, local_batch_size=BATCH),
        model_eval_params=NNEvalHyperParams(local_batch_size=BATCH),
        callbacks=[Watch(clock)],
    )
    clock.print()


if __name__ == "__main__":
    main()
