"""Makes train.csv and test.csv from the four files processed.*.data of UCI Heart Disease, by FLamby's rule.

    python make.py FOLDER

Needs pandas and scikit-learn (the split comes from its train_test_split with random_state 43, made with version 1.2.2).
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

NAMES = ["age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak", "slope", "ca", "thal", "num"]
DROPPED = ["slope", "ca", "thal"]
CATEGORIES = ["sex", "cp", "fbs", "restecg", "exang", "num"]
TRAIN_SHARE = 0.66

folder = Path(sys.argv[1])
parts = {"train": [], "test": []}
for hospital in ["cleveland", "hungarian", "switzerland", "va"]:
    rows = pd.read_csv(folder / f"processed.{hospital}.data", header=None, names=NAMES, na_values="?")
    rows = rows.drop(columns=DROPPED).dropna()
    rows[CATEGORIES] = rows[CATEGORIES].astype(int)
    rows.insert(0, "hospital", hospital)
    ill = (rows["num"] > 0).astype(int)
    stratify = ill if min((ill == 0).sum(), (ill == 1).sum()) > 2 else None
    train, test = train_test_split(
        np.arange(len(rows)),
        train_size=TRAIN_SHARE,
        test_size=1.0 - TRAIN_SHARE,
        random_state=43,
        shuffle=True,
        stratify=stratify,
    )
    parts["train"].append(rows.iloc[sorted(train)])
    parts["test"].append(rows.iloc[sorted(test)])
for name, frames in parts.items():
    pd.concat(frames).to_csv(f"{name}.csv", index=False, float_format="%g")
