"""LLC as published (Compression for Better: A General and Stable Lossless Compression Framework, arXiv 2412.06868).

A model is compressed by errors ε of what its layers are fed and δ of their weights; to first order the loss changes by
Σ ⟨∂ℓ/∂h, ε⟩ + ⟨∂ℓ/∂w, δ⟩ (Eq. 3), and LLC looks for bits and ranks where it falls. No code was published with it.

    Eq. 3, 4        first and second order for given errors            sensitivity/measure.py: ESTIMATORS
    Eq. 5, 6        how far both reach (Table 1, Figure 1)             sensitivity/neighborhood.py: neighborhood
    Eq. 7           which way inputs are rounded: gradient sums        bits.py: gradient_sums, Published.directions
    Algorithm 1     scales by ACIQ                                     bits.py: aciq_range, aciq_reach
                    slope costs P of bits                              bits.py: slope_cost
    Eq. 9           grouped knapsack                                   allocate/knapsack.py: knapsack, without pairs
    Eq. 10          first order of every rank at once                  propose/ranks/spectrum.py: Spectrum.first_order
    Algorithm 2     ranks layer by layer, early stop                   ranks.py: search

``preset="paper"`` of quantize and decompose takes the strategies ``bits.STRATEGY`` and ``ranks.STRATEGY``. What the
paper leaves open is chosen as plainly as possible: one scale for a tensor, batch norms folded, weights rounded to
nearest, the first and the last layer as all others.
"""
