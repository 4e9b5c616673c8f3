"""Text that deflate may refer back to when it packs an index: usual names of tensors and keys of the two JSON texts.

It is part of format version 1: changing one byte makes existing files unreadable. What occurs most stands last, where
references to it are shortest.
"""

from __future__ import annotations

DICTIONARY = (
    b'"batch":64,"confidence":0.95,"delta":0.25,"development":0.2,"distill":"cosine","mse","looks":3,"lr_steps":0.01,'
    b'"lr_weights":0.007,"lr_zones":0.02,"ramp":0.2,"rate_on_weights":true,"start":1.3,"warm_up":20,"zone":0.6,"task":'
    b'"original_bytes":"tool":"noworse 0.1.0","version":1,"tolerance":"1%"}'
    b'{"distill":"kl","iterations":2000,"seed":0,"target":"20.0"}'
    b'{"changed":0.0,"compressed_loss":0.0,"confidence":0.95,"looks":1,"lower_bound":-0.000,"mean_difference":-0.000,'
    b'"mean_kl":0.000,"metric_compressed":0.9,"metric_original":0.9,"original_loss":0.0,"samples":10000,'
    b'"tolerance":0.01,"upper_bound":0.000,"verdict":"inconclusive"improved"worse"no worse"}'
    b"embeddings.word_embeddings.position_embeddings.token_type_embeddings.pos_embed\0cls_token\0patch_embed.proj."
    b"attn.qkv.q_proj.k_proj.v_proj.out_proj.o_proj.mlp.gate_proj.up_proj.down_proj.wte.wpe.h.0.ln_1.ln_f.c_attn.c_fc."
    b"c_proj.lm_head.model.layers.0.self_attn.input_layernorm.post_attention_layernorm.encoder.layer.0.attention.self."
    b"query.weight\0key.value.attention.output.dense.LayerNorm.weight\0intermediate.dense.output.dense.pooler.dense."
    b"in_proj_weight\0in_proj_bias\0linear1.linear2.norm1.weight\0norm2.blocks.0.downsample.0.weight\0conv3.weight\0"
    b"features.0.0.classifier.1.fc1.weight\0fc2.shortcut.0.weight\0stem.head.fc.weight\0conv1.weight\0bn1.weight\0"
    b"layer1.0.conv1.weight\0conv2.weight\0bn2.weight\0bias\0running_mean\0var\0num_batches_tracked\0"
)
