"""Federated averaging in bare PyTorch: `torch_simulation.py CASE processes|vmap ROUNDS FOLDER`.

`processes`: two processes of one thread, each with half of the cohort; the sums of clipped updates meet in shared memory. `vmap`: one process
of one thread, torch.func's vmap over 100 clients at a time.
"""

import sys

import torch
import torch.multiprocessing as mp
from common import BATCH, CASES, CLIP_NORM, EXAMPLES, LEARNING_RATE, NOISE_MULTIPLIER, Clock, build, client_data, load, train
from torch.nn.utils import parameters_to_vector, vector_to_parameters


def worker(case, folder, parameters, total, tasks, done):
    torch.set_num_threads(1)
    data, model = load(folder), build(case)
    while (clients := tasks.get()) is not None:
        total.zero_()
        for client in clients:
            vector_to_parameters(parameters, model.parameters())
            # Parameters are views of the shared vector until they are trained.
            for parameter in model.parameters():
                parameter.data = parameter.data.clone()
            train(model, *client_data(data, client))
            with torch.no_grad():
                update = parameters_to_vector(model.parameters()) - parameters
                total += update * (CLIP_NORM / update.norm().clamp(min=CLIP_NORM))
        done.put(None)


def in_processes(case, rounds, folder):
    n_clients, cohort = CASES[case]
    parameters = parameters_to_vector(build(case).parameters()).detach().share_memory_()
    totals = [torch.zeros_like(parameters).share_memory_() for _ in range(2)]
    tasks, done = [mp.SimpleQueue() for _ in totals], mp.SimpleQueue()
    workers = [
        mp.Process(target=worker, args=(case, folder, parameters, total, queue, done), daemon=True)
        for total, queue in zip(totals, tasks)
    ]
    for process in workers:
        process.start()
    clock = Clock()
    for _ in range(rounds):
        clients = torch.randperm(n_clients)[:cohort].tolist()
        for index, queue in enumerate(tasks):
            queue.put(clients[index::2])
        for _ in tasks:
            done.get()
        noise = torch.randn_like(parameters) * (NOISE_MULTIPLIER * CLIP_NORM)
        parameters += (totals[0] + totals[1] + noise) / cohort
        clock.tick()
    for queue in tasks:
        queue.put(None)
    for process in workers:
        process.join()
    clock.print()


def with_vmap(case, rounds, folder):
    from torch.func import functional_call, grad, vmap

    torch.set_num_threads(1)
    n_clients, cohort = CASES[case]
    model, (features, labels) = build(case), load(folder)
    parameters = {name: value.detach().clone() for name, value in model.named_parameters()}

    def loss(values, x, y):
        return torch.nn.functional.cross_entropy(functional_call(model, values, (x,)), y)

    slopes = vmap(grad(loss))
    clock = Clock()
    for _ in range(rounds):
        total = {name: torch.zeros_like(value) for name, value in parameters.items()}
        for clients in torch.randperm(n_clients)[:cohort].split(100):
            local = {name: value.expand(len(clients), *value.shape) for name, value in parameters.items()}
            order = torch.rand(len(clients), EXAMPLES).argsort(dim=1)
            x = features[clients[:, None], order].float().div_(255)
            y = labels[clients[:, None], order]
            for begin in range(0, EXAMPLES, BATCH):
                by = slopes(local, x[:, begin : begin + BATCH], y[:, begin : begin + BATCH])
                local = {name: local[name] - LEARNING_RATE * by[name] for name in local}
            updates = {name: local[name] - parameters[name] for name in local}
            squares = sum(update.flatten(1).square().sum(1) for update in updates.values())
            factors = CLIP_NORM / squares.sqrt().clamp(min=CLIP_NORM)
            for name, update in updates.items():
                total[name] += torch.einsum("n,n...->...", factors, update)
        for name, value in parameters.items():
            value += (total[name] + torch.randn_like(value) * (NOISE_MULTIPLIER * CLIP_NORM)) / cohort
        clock.tick()
    clock.print()


if __name__ == "__main__":
    case, mode, rounds, folder = sys.argv[1:]
    (in_processes if mode == "processes" else with_vmap)(case, int(rounds), folder)
