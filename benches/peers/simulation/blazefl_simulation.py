"""BlazeFL, one process of one thread, which is its fastest way for small models: `blazefl_simulation.py CASE ROUNDS FOLDER`. It has no privacy: clipping
and noise are added in its server's handler."""

import sys

import torch
from blazefl.contrib import FedAvgBaseClientTrainer, FedAvgBaseServerHandler
from common import CASES, BATCH, CLIP_NORM, LEARNING_RATE, NOISE_MULTIPLIER, Clock, build, client_data, load
from torch.utils.data import DataLoader, TensorDataset


class Selector:
    def select_model(self, name):
        return build(name)


class Clients:
    def __init__(self, folder):
        self.data = load(folder)

    def get_dataloader(self, type_, cid, batch_size, generator=None):
        return DataLoader(TensorDataset(*client_data(self.data, cid)), batch_size=batch_size, shuffle=True, generator=generator)


class Server(FedAvgBaseServerHandler):
    def aggregate(self, parameters, weights):
        before = torch.cat([value.flatten() for value in self.model.state_dict().values()])
        total = torch.randn_like(before) * (NOISE_MULTIPLIER * CLIP_NORM)
        for own in parameters:
            update = own - before
            total += update * (CLIP_NORM / update.norm().clamp(min=CLIP_NORM))
        return before + total / len(parameters)


def main():
    case, rounds, folder = sys.argv[1:]
    torch.set_num_threads(1)
    n_clients, cohort = CASES[case]
    data = Clients(folder)
    settings = dict(model_selector=Selector(), model_name=case, dataset=data, num_clients=n_clients, device="cpu", batch_size=BATCH, seed=7)
    server = Server(**settings, global_round=int(rounds), sample_ratio=cohort / n_clients)
    trainer = FedAvgBaseClientTrainer(**settings, epochs=1, lr=LEARNING_RATE)
    clock = Clock()
    while not server.if_stop():
        trainer.local_process(server.downlink_package(), server.sample_clients())
        for package in trainer.uplink_package():
            server.load(package)
        clock.tick()
    clock.print()


if __name__ == "__main__":
    main()
