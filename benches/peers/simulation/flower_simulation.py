"""Flower's simulation on Ray, two actors of one core: `flower_simulation.py CASE ROUNDS FOLDER`. Clipping and noise by its server-side wrapper."""

import sys

import torch
from common import CASES, CLIP_NORM, NOISE_MULTIPLIER, Clock, build, client_data, load, train
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping, FedAvg
from flwr.simulation import run_simulation

CASE, ROUNDS, FOLDER = sys.argv[1], int(sys.argv[2]), sys.argv[3]
N_CLIENTS, COHORT = CASES[CASE]
CLOCK = Clock()
KEPT = {}


class Strategy(DifferentialPrivacyServerSideFixedClipping):
    """Notes the time of each round, and how many answered."""

    def aggregate_train(self, server_round, replies):
        replies = list(replies)
        result = super().aggregate_train(server_round, replies)
        CLOCK.tick()
        CLOCK.answers = [*getattr(CLOCK, "answers", []), len(replies)]
        return result


def client_app():
    app = ClientApp()

    @app.train()
    def _(message: Message, context: Context):
        torch.set_num_threads(1)
        # An actor keeps its data and model from client to client.
        if not KEPT:
            KEPT["data"], KEPT["model"] = load(FOLDER), build(CASE)
        model = KEPT["model"]
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        train(model, *client_data(KEPT["data"], int(context.node_config["partition-id"])))
        content = {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord({"num-examples": 20})}
        return Message(content=RecordDict(content), reply_to=message)

    return app


def server_app():
    app = ServerApp()

    @app.main()
    def _(grid: Grid, context: Context):
        inner = FedAvg(
            fraction_train=COHORT / N_CLIENTS, fraction_evaluate=0.0, min_train_nodes=COHORT, min_available_nodes=N_CLIENTS
        )
        strategy = Strategy(inner, NOISE_MULTIPLIER, CLIP_NORM, COHORT)
        # The first round pays for the start and may be short, so there is one more.
        strategy.start(grid=grid, initial_arrays=ArrayRecord(build(CASE).state_dict()), num_rounds=ROUNDS + 1)

    return app


if __name__ == "__main__":
    config = {"init_args": {"num_cpus": 2, "include_dashboard": False}, "client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
    run_simulation(server_app(), client_app(), num_supernodes=N_CLIENTS, backend_config=config)
    whole = [seconds for seconds, answers in zip(CLOCK.seconds, CLOCK.answers[1:]) if answers == COHORT]
    CLOCK.seconds = whole
    CLOCK.print()
