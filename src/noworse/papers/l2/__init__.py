"""L² as published: Shi, Bai, Wei, Gong, Yang, Lossy and Lossless (L²) Post-training Model Size Compression, ICCV 2023.

Each part is a class that the seams (tune/seams.py) know by a name, as they know anybody's; nothing else imports them.

| what is published | class or function here | chosen by |
|---|---|---|
| scale: c = w/s | propose.grids.transform.Uniform | plugins transform "uniform" |
| edgescale: w/2e for abs(w) <= e, else sign(w)(1/2 + (abs(w) − e)/s) | propose.grids.transform.Deadzone | standard |
| log: c = sign(w) ln(1 + abs(w)/a)/s | transforms.Log | "log" |
| exp: c = sign(w) (exp(abs(w)/a) − 1)/s | transforms.Exp | "exp" |
| multiscale: five segments, each with a step | transforms.Multiscale | "multiscale" |
| q = round(c), gradient straight through | propose.grids.general.GeneralGrids | all of them |
| kernel cos: K(u) = 1/2 − 1/2 cos(π(u + 1)/2) | rate.soft.Cosine | standard |
| kernel lin: K(u) = (u + 1)/2 | rate.Linear | plugins kernel "linear" |
| kernel tri: K(u) = (u + 1)²/2, 1 − (1 − u)²/2 | rate.Triangle | "triangle" |
| δ = (max c − min c)/resolution | rate.RangeKernel, and in Official | "range" |
| R = N · mean −log2 [(F(q + 1/2) − F(q − 1/2))/n], 1/128 of large tensors | rate.Official | plugins rate "official" |
| start: e = s = (max w − min w)/256 | alternate.official_start | with the schedule |
| three rounds: transforms with the rate, weights without | alternate.AlternatingTuner | plugins tuner "alternating" |

``preset="paper"`` chooses schedule, start and rate estimate; alternate.py says where these differ from the paper.
"""
