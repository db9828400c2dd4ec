-- Inside/Out store. One DuckDB file, built beside the old one and renamed into place (store/write.py).
-- Conventions: *_low / *_high = 95 % bootstrap interval over documents; NULL = not measured (never 0);
-- "tuned" = base + adapter; KL in nats per token; depth = layer / n_layers in [0, 1); n_* = sample sizes.

CREATE TABLE meta (
    schema_version INTEGER NOT NULL,      -- lib/store/__init__.py: SCHEMA_VERSION
    store_id       VARCHAR NOT NULL,      -- content hash of all parts, shown in every provenance line
    created_at     TIMESTAMP NOT NULL     -- UTC
);

CREATE TABLE experiment (
    experiment_id  VARCHAR PRIMARY KEY,   -- model.corpus.rRANK.tSTEPS.sSEED
    base_model     VARCHAR NOT NULL,      -- the one string that names a model, e.g. smollm2-135m
    n_parameters   BIGINT,
    n_layers       INTEGER,
    d              INTEGER,               -- width of the residual stream
    corpus         VARCHAR NOT NULL,
    hook           VARCHAR,               -- mlp | residual: where dictionaries read
    rank           INTEGER,
    alpha          DOUBLE,
    steps          INTEGER,
    seed           INTEGER,
    provenance     VARCHAR NOT NULL,      -- measured | published
    config         VARCHAR,               -- the full recipe, JSON
    base_hash      VARCHAR,               -- sha256 prefix of the base weights
    adapter_hash   VARCHAR,
    data_hash      VARCHAR,               -- of corpus + neutral + sampled text
    code_hash      VARCHAR,
    versions       VARCHAR,               -- JSON: package -> version
    device         VARCHAR,
    train_tokens   BIGINT,                -- tokens seen by the adapter
    train_seconds  DOUBLE,
    lora_flop      DOUBLE,                -- FLOP spent on the fine-tune (measured tokens x 6 N approx. of its recipe)
    base_flop      DOUBLE,                -- FLOP of the base model's pretraining (6 N D); NULL = unknown
    loss_first     DOUBLE,                -- nats per token
    loss_last      DOUBLE,
    part           VARCHAR,               -- key of the pipeline stage whose rows these are (content hash with recipe version)
    created_at     TIMESTAMP
);

-- Loss of the fine-tune and held-out quality of every dictionary while it trained.
CREATE TABLE training_curve (
    experiment_id  VARCHAR NOT NULL,
    run            VARCHAR NOT NULL,      -- adapter | crosscoder | sae_base | sae_tuned
    layer          INTEGER,               -- NULL for the adapter
    step           INTEGER NOT NULL,
    loss           DOUBLE,                -- adapter: nats per token; dictionary: squared error / variance
    fve_base       DOUBLE,                -- held-out fraction of variance explained
    fve_tuned      DOUBLE,
    fve_difference DOUBLE,
    l0             DOUBLE,                -- held-out mean number of active latents per token
    dead_share     DOUBLE                 -- share of latents that count as dead
);

-- The output axis, one row per evaluation text.
CREATE TABLE output_metric (
    experiment_id   VARCHAR NOT NULL,
    text            VARCHAR NOT NULL,     -- corpus (held-out part) | neutral (held-out part)
    part            VARCHAR NOT NULL,     -- all | response | prompt
    n_documents     INTEGER NOT NULL,
    n_tokens        BIGINT NOT NULL,
    kl              DOUBLE, kl_low DOUBLE, kl_high DOUBLE,                          -- KL(tuned || base)
    reverse_kl      DOUBLE, reverse_kl_low DOUBLE, reverse_kl_high DOUBLE,          -- KL(base || tuned)
    js              DOUBLE, js_low DOUBLE, js_high DOUBLE,                          -- Jensen-Shannon, <= ln 2
    agreement       DOUBLE, agreement_low DOUBLE, agreement_high DOUBLE,            -- share of equal top tokens
    perplexity_base  DOUBLE, perplexity_base_low DOUBLE, perplexity_base_high DOUBLE,
    perplexity_tuned DOUBLE, perplexity_tuned_low DOUBLE, perplexity_tuned_high DOUBLE,
    kl_floor        DOUBLE                -- numerical floor: KL of the base with itself in another batch shape
);

-- The internal axis by layer: CKA and displacement at every layer; dictionary columns only at dictionary depths.
CREATE TABLE layer_metric (
    experiment_id   VARCHAR NOT NULL,
    layer           INTEGER NOT NULL,     -- 0 = first block
    depth           DOUBLE NOT NULL,
    hook            VARCHAR NOT NULL,     -- mlp | residual
    n_tokens        BIGINT NOT NULL,
    cka             DOUBLE, cka_low DOUBLE, cka_high DOUBLE,                        -- debiased linear CKA
    relative_displacement DOUBLE,         -- sqrt(E|x_f - x_b|^2 / E|x_b - mean|^2)
    relative_displacement_low DOUBLE, relative_displacement_high DOUBLE,
    offset_share    DOUBLE,               -- share of E|x_f - x_b|^2 that is one constant vector
    ratio           DOUBLE, ratio_low DOUBLE, ratio_high DOUBLE,                    -- cross / self error, held-out (definition A)
    ratio_centred   DOUBLE,               -- the same after removing the mean difference
    ratio_in_sample DOUBLE,               -- on training tokens: a warning light, never a headline
    excess_fvu      DOUBLE, excess_fvu_low DOUBLE, excess_fvu_high DOUBLE,          -- (E_cross - E_self) / Var(x_f)
    fve_self        DOUBLE,               -- of the tuned SAE on tuned activations, held-out
    fve_cross       DOUBLE,               -- of the base SAE on tuned activations, held-out
    ratio_bound     DOUBLE,               -- 1 / (1 - fve_self): what predicting the mean would score
    is_peak         BOOLEAN,              -- the depth with the largest held-out ratio
    peak_share      DOUBLE,               -- share of resamples of the documents in which this depth has the largest ratio
    massive_dropped INTEGER,              -- tokens left out of this layer's numbers: norm over 5x the layer's median in either model
    massive_base    INTEGER, massive_tuned INTEGER,                                 -- ... of these, massive in the base / in the tuned model
    massive_energy_base DOUBLE, massive_energy_tuned DOUBLE                         -- share of the sum of squares that they carry
);

CREATE TABLE dictionary (
    experiment_id   VARCHAR NOT NULL,
    layer           INTEGER NOT NULL,
    kind            VARCHAR NOT NULL,     -- crosscoder | sae_base | sae_tuned
    latents         INTEGER NOT NULL,
    latents_asked   INTEGER NOT NULL,     -- > latents when there was too little text: the dictionary shrank
    k               INTEGER NOT NULL,
    train_tokens    BIGINT NOT NULL,
    heldout_tokens  BIGINT NOT NULL,
    steps           INTEGER NOT NULL,
    stopped         VARCHAR NOT NULL,     -- flat | step limit
    fve_base        DOUBLE,               -- held-out; NULL for the side that this dictionary does not see
    fve_tuned       DOUBLE,
    fve_difference  DOUBLE,               -- share of the variance of tuned - base that the crosscoder explains
    l0              DOUBLE,               -- held-out
    dead_share      DOUBLE,
    alive           INTEGER,
    seconds         DOUBLE,
    stable_share    DOUBLE,               -- crosscoder: share of alive latents found in every seed's dictionary
    stable_difference DOUBLE,             -- crosscoder: share of the difference's energy (latent.difference_share) in those
    seed_chance     DOUBLE                -- crosscoder: best cosine that chance gives (the higher of random and shuffled)
);

-- Single precision and four significant digits (shares: six); there are many latents.
CREATE TABLE latent (
    experiment_id   VARCHAR NOT NULL,
    layer           INTEGER NOT NULL,
    latent          INTEGER NOT NULL,
    class           VARCHAR NOT NULL,     -- eliminated | suppressed | shared | amplified | new | dead (cuts 0.1 0.4 0.6 0.9 on delta_norm)
    norm_base       FLOAT,                -- decoder norm
    norm_tuned      FLOAT,
    delta_norm      FLOAT,                -- 0 base-only .. 1 tuned-only
    cosine          FLOAT,                -- of the two decoder directions
    nu_eps          FLOAT,                -- latent scaling, error target (base / tuned); NULL when undefined
    nu_r            DOUBLE,               -- latent scaling, reconstruction target
    frequency       DOUBLE,               -- share of tokens (train + held-out) on which it fires
    firings         BIGINT,               -- number of tokens (train + held-out) behind the statistics
    energy          DOUBLE,               -- E[a^2] |d_tuned|^2 as a share of all latents' energy
    difference_share DOUBLE,              -- E[a^2] |d_tuned - d_base|^2 as a share of all latents'
    max_activation  DOUBLE,
    promoted        VARCHAR[],            -- tokens whose logits d_tuned raises most (direct path)
    promoted_logit  FLOAT[],              -- to two decimals
    suppressed      VARCHAR[],            -- NULL, as the histogram and the examples, where lib/store/pack.py drops them
    suppressed_logit FLOAT[],
    histogram_edges FLOAT[],              -- of the non-zero activations
    histogram_counts BIGINT[],
    seeds           INTEGER,              -- dictionaries of other seeds compared, plus this one; NULL = none was trained
    seeds_found     INTEGER,              -- in how many of them it is (decoder cosine >= 0.7, one-to-one), this one included; 0 = dead
    seed_cosine     DOUBLE,               -- best decoder cosine in another seed's dictionary, mean over those
    change_cosine   DOUBLE,               -- cosine of d_tuned - d_base with its match's, mean over the seeds that have it
    documents       INTEGER,              -- documents (train, held-out, sampled) in which it fires
    top_document    DOUBLE,               -- share of its firings in the document with most of them
    top_position    DOUBLE                -- share of its firings at the window position with most of them
);

-- Spans, not text: positions count tokens of the document under the base model's tokenizer.
CREATE TABLE example (
    experiment_id   VARCHAR NOT NULL,
    layer           INTEGER NOT NULL,
    latent          INTEGER NOT NULL,
    rank            INTEGER NOT NULL,     -- 0 = strongest
    corpus          VARCHAR NOT NULL,
    document_id     VARCHAR NOT NULL,
    token_start     INTEGER NOT NULL,     -- first token of the window
    token_end       INTEGER NOT NULL,     -- one past the last
    positions       INTEGER[] NOT NULL,   -- tokens of the window on which it fires (document positions)
    activations     FLOAT[] NOT NULL      -- its activation there
);

CREATE TABLE document (
    base_model      VARCHAR NOT NULL,     -- offsets depend on the tokenizer
    corpus          VARCHAR NOT NULL,
    document_id     VARCHAR NOT NULL,
    split           VARCHAR NOT NULL,     -- train | heldout
    sha256          VARCHAR NOT NULL,     -- of the rendered text; the page shows text only when it matches
    n_tokens        INTEGER NOT NULL,
    char_ends       INTEGER[] NOT NULL    -- end of each token in the rendered text; token t = text[char_ends[t-1]:char_ends[t]]
);

-- Per-token divergence on held-out text: entry t belongs to the prediction OF token t from the tokens before it.
CREATE TABLE token_kl (
    experiment_id   VARCHAR NOT NULL,
    corpus          VARCHAR NOT NULL,
    document_id     VARCHAR NOT NULL,
    kl              FLOAT[] NOT NULL,     -- nats; NULL where not scored (first tokens)
    nll_base        FLOAT[] NOT NULL,
    nll_tuned       FLOAT[] NOT NULL
);

-- Numbers that combine layers: every resample of the documents recomputes all layers at once.
CREATE TABLE profile (
    experiment_id   VARCHAR PRIMARY KEY,
    peak_ratio      DOUBLE, peak_ratio_low DOUBLE, peak_ratio_high DOUBLE,          -- largest ratio over depths; each resample takes its own maximum
    late_share      DOUBLE, late_share_low DOUBLE, late_share_high DOUBLE,          -- of the CKA displacement of all layers, what lies in the last 30 %
    late_minus_mid  DOUBLE, late_minus_mid_low DOUBLE, late_minus_mid_high DOUBLE   -- mean 1 - CKA over depths >= 0.7 minus over depths 0.4 to 0.6
);

-- Latents of each crosscoder by what the tuned model added, for the experiment and for its null controls.
CREATE TABLE latent_count (
    experiment_id   VARCHAR NOT NULL,
    control         VARCHAR NOT NULL,     -- none (the experiment itself) | random_lora
    draw            INTEGER NOT NULL,     -- 0 for none
    layer           INTEGER NOT NULL,
    alive           INTEGER NOT NULL,     -- not dead
    strict          INTEGER NOT NULL,     -- class new with nu_eps < 0.2 and nu_r < 0.5
    loose           INTEGER NOT NULL,     -- class new
    leaning         INTEGER NOT NULL,     -- class new or amplified
    suppressed      INTEGER NOT NULL,
    eliminated      INTEGER NOT NULL,
    unscaled        INTEGER NOT NULL,     -- class new without a nu: neither strict nor refuted
    energy_strict   DOUBLE NOT NULL,      -- share of all latents' energy in the strict ones
    energy_loose    DOUBLE NOT NULL,
    fve_difference  DOUBLE                -- of the crosscoder: what share of the change it can see at all
);

-- Null controls: the measurements of layer_metric where nothing was learned, one row per draw and layer.
CREATE TABLE null_layer (
    experiment_id   VARCHAR NOT NULL,     -- the experiment whose text, layers and adapter norms the control takes
    control         VARCHAR NOT NULL,     -- seed (base vs base, other dictionary seed) | random_lora (same Frobenius norm per matrix)
    draw            INTEGER NOT NULL,     -- 0, 1, ...: seed of the control
    layer           INTEGER NOT NULL,
    ratio           DOUBLE,               -- as in layer_metric; NULL where this control has no dictionary
    ratio_centred   DOUBLE,
    excess_fvu      DOUBLE,
    cka             DOUBLE,               -- NULL for the seed control: both views are the same
    relative_displacement DOUBLE
);

-- KL of the random-LoRA control, as in output_metric.
CREATE TABLE null_output (
    experiment_id   VARCHAR NOT NULL,
    control         VARCHAR NOT NULL,
    draw            INTEGER NOT NULL,
    text            VARCHAR NOT NULL,     -- corpus | neutral
    kl              DOUBLE NOT NULL       -- KL(base + random LoRA || base), nats per token
);

-- The standard ablation: latents with most of the change clamped to base on held-out documents, at each
-- dictionary depth and at all of them together; no row = not run. Held against lib/evidence/causal.py.
CREATE TABLE causal_run (
    experiment_id   VARCHAR NOT NULL,
    layers          VARCHAR NOT NULL,     -- depths edited together, e.g. 15 or 7,15,22,27
    part            VARCHAR NOT NULL,     -- key of the pipeline stage whose rows these are
    request_id      VARCHAR NOT NULL,     -- content hash of the request, texts included
    intervention    VARCHAR NOT NULL,     -- pair_clamp
    ranking         VARCHAR NOT NULL,     -- energy: of the change, on training text
    top             INTEGER NOT NULL,     -- latents per depth
    strength        DOUBLE NOT NULL,
    draws           INTEGER NOT NULL,     -- of each control
    seed            INTEGER NOT NULL,
    skip_first      INTEGER NOT NULL,     -- positions (BOS = 0) neither edited nor scored
    prompt_limit    INTEGER NOT NULL,     -- tokens read of each document
    documents       VARCHAR[] NOT NULL,   -- ids of the held-out documents, in the order of every list below
    starts          INTEGER[] NOT NULL,   -- first token that was read of each document
    neutral         VARCHAR[] NOT NULL,   -- ids of the neutral texts of the damage measure
    tokens          USMALLINT[] NOT NULL, -- scored tokens of each document
    latents         INTEGER[][] NOT NULL, -- edited at each depth
    share           DOUBLE,               -- of KL reversed; NULL = base and tuned predict the same
    share_low       DOUBLE, share_high DOUBLE,
    ceiling         DOUBLE,               -- the same with base activations patched in at these depths
    ceiling_low     DOUBLE, ceiling_high DOUBLE,
    over_ceiling    DOUBLE,               -- share / ceiling; NULL where the ceiling is under 1 %
    over_ceiling_low DOUBLE, over_ceiling_high DOUBLE,
    p               DOUBLE,               -- largest rank-based p over the controls
    claim           BOOLEAN NOT NULL,     -- causal link supported
    against         VARCHAR[] NOT NULL,   -- what stands against it: KIND or KIND:CONTROL (lib/evidence/verdict.py)
    base_model      VARCHAR NOT NULL,
    hook            VARCHAR NOT NULL,
    device          VARCHAR NOT NULL,
    seconds         DOUBLE NOT NULL
);

-- One row per condition: base, tuned, treated, ceiling, and each control (means over its draws).
CREATE TABLE causal (
    experiment_id   VARCHAR NOT NULL,
    layers          VARCHAR NOT NULL,
    condition       VARCHAR NOT NULL,     -- base | tuned | treated | ceiling | random_latents | gaussian | ...
    draws           INTEGER NOT NULL,     -- 1 but for controls
    kl              DOUBLE NOT NULL,      -- KL(condition || base), nats per token
    share           DOUBLE,               -- of KL reversed; of a control the mean over draws
    share_low       DOUBLE, share_high DOUBLE,
    percentile      DOUBLE,               -- controls: 97.5th of the draws
    p               DOUBLE,               -- controls: (1 + draws >= treated) / (draws + 1)
    advantage       DOUBLE,               -- controls: treated share minus the mean
    advantage_low   DOUBLE, advantage_high DOUBLE,
    beaten          BOOLEAN,              -- controls: treated interval above the percentile
    norm_ratio      DOUBLE,               -- controls: edit norm over the treated one's
    agreement       DOUBLE NOT NULL,      -- share of tokens with base's top token
    neutral_nll     DOUBLE,               -- damage: nats per token on neutral text; not measured for controls
    edit_norm       DOUBLE[] NOT NULL,    -- at each depth: mean |edit|; of a control the mean over draws
    difference_norm DOUBLE[] NOT NULL,    -- mean |x - x_base| just before the edit
    removed         DOUBLE[] NOT NULL,    -- share of the squared difference that the edit removes
    fires           DOUBLE[],             -- tokens on which a latent of the set fires; NULL without latents
    document_kl     DOUBLE[],             -- sum of KL over each document's tokens, nats; NULL for controls
    document_agree  USMALLINT[]           -- tokens with base's top token
);

CREATE TABLE causal_draw (
    experiment_id   VARCHAR NOT NULL,
    layers          VARCHAR NOT NULL,
    control         VARCHAR NOT NULL,
    draw            USMALLINT NOT NULL,
    document_kl     FLOAT[] NOT NULL,     -- as in table causal
    document_agree  USMALLINT[] NOT NULL,
    edit_norm       FLOAT[] NOT NULL,
    difference_norm FLOAT[] NOT NULL,
    removed         FLOAT[] NOT NULL
);

-- The activation difference lens (arXiv:2510.13900): mean tuned - base of block outputs at the first
-- tokens of unrelated text. Position 0 is the first token after BOS; no row = not run.
CREATE TABLE lens_run (
    experiment_id   VARCHAR NOT NULL,
    part            VARCHAR NOT NULL,     -- key of the pipeline stage whose rows these are
    layer           INTEGER NOT NULL,     -- of Patchscope, steering, swap and robustness: the middle block
    hook            VARCHAR NOT NULL,     -- residual
    probe           VARCHAR NOT NULL,     -- corpus of the probe text
    texts           INTEGER NOT NULL,     -- probe texts
    positions       INTEGER NOT NULL,
    k               INTEGER NOT NULL,     -- tokens read per vector
    words           INTEGER[] NOT NULL,   -- own frequent words of the fine-tuning corpus, as word ids
    vocabulary      INTEGER NOT NULL,     -- distinct words of the tokenizer (lib/lens/words.py)
    reference       VARCHAR NOT NULL,     -- corpus whose most frequent words are everybody's
    eta             DOUBLE,               -- mean norm of the tuned stream at `layer`, past the first positions
    seed            INTEGER NOT NULL,
    seconds         DOUBLE NOT NULL
);

-- One row per probe, layer and position: the mean difference and how constant it is.
CREATE TABLE lens_difference (
    experiment_id   VARCHAR NOT NULL,
    probe           VARCHAR NOT NULL,     -- name of the probe corpus | corpus (held-out text of the experiment's own)
    layer           INTEGER NOT NULL,
    position        INTEGER NOT NULL,
    n               INTEGER NOT NULL,     -- texts that reach the position
    norm            DOUBLE NOT NULL,      -- of the mean difference, in units of the activations
    error           DOUBLE,               -- standard error of the mean, as a length; NULL with one text
    base_norm       DOUBLE NOT NULL,      -- mean norm of the base's activations
    tuned_norm      DOUBLE NOT NULL,
    offset_share    DOUBLE NOT NULL,      -- n |mean|^2 / sum |difference|^2, 0..1; 1 = one vector for all texts
    first_cosine    DOUBLE                -- with the mean difference at position 0; NULL where one is 0
);

-- Tokens that a vector stands for, strongest first. Lists have k entries at most; tokens as the tokenizer spells them.
CREATE TABLE lens_reading (
    experiment_id   VARCHAR NOT NULL,
    layer           INTEGER NOT NULL,
    position        INTEGER NOT NULL,     -- -1 = no single position (SVD of the differences, BOS alone)
    reading         VARCHAR NOT NULL,     -- lens | lens_negated | base_head | base_head_negated | patchscope |
                                          -- demeaned | svd_1 | svd_2 | svd_3 | bos | whitespace | far
    scale           DOUBLE,               -- patchscope: factor of the vector, chosen by lib/lens/patchscope.py
    ids             INTEGER[] NOT NULL,
    tokens          VARCHAR[] NOT NULL,
    shares          FLOAT[] NOT NULL,     -- probability of each
    words           INTEGER[] NOT NULL    -- word id of each token; -1 = no word
);

-- How high the logit lens ranks every word in use, whether or not it is among the k that were read.
CREATE TABLE lens_words (
    experiment_id   VARCHAR NOT NULL,
    layer           INTEGER NOT NULL,
    words           INTEGER[] NOT NULL,   -- word ids, rising
    percentile      FLOAT[] NOT NULL      -- among all words of the tokenizer, 0..1, mean over positions
);

-- Is it one context-independent shift? One row per check, at layer `lens_run.layer`.
CREATE TABLE lens_robustness (
    experiment_id   VARCHAR NOT NULL,
    check_name      VARCHAR NOT NULL,     -- lib/lens/robustness.py names and explains them
    position        INTEGER NOT NULL,     -- -1 = over positions
    measure         VARCHAR NOT NULL,     -- cosine | norm_ratio | share | slope | overlap
    value           DOUBLE,               -- NULL = not defined
    low             DOUBLE, high DOUBLE,  -- 95 % over texts, where it is a mean over texts
    shift           DOUBLE,               -- what one context-independent vector gives
    n               INTEGER NOT NULL
);

-- h <- P h_base + (1 - P) h_tuned at every position of one block, P = projection on one direction.
CREATE TABLE lens_swap (
    experiment_id   VARCHAR NOT NULL,
    direction       VARCHAR NOT NULL,     -- difference | random | random_difference
    position        INTEGER NOT NULL,     -- of the mean difference; -1 for controls
    draw            INTEGER NOT NULL,
    text            VARCHAR NOT NULL,     -- corpus | neutral
    change          DOUBLE NOT NULL,      -- of the tuned model's loss, nats per token; positive = worse
    tuned_loss      DOUBLE NOT NULL,
    base_loss       DOUBLE NOT NULL,
    document_change FLOAT[] NOT NULL,     -- sum over each document's tokens, nats
    document_tokens USMALLINT[] NOT NULL
);

-- Adding coefficient * eta * unit mean difference at every position of block `lens_run.layer`.
CREATE TABLE lens_steering (
    experiment_id   VARCHAR NOT NULL,
    position        INTEGER NOT NULL,     -- whose mean difference is added
    coefficient     DOUBLE NOT NULL,      -- largest that keeps text coherent (lib/lens/coherence.py); 0 = none does
    note            VARCHAR NOT NULL,     -- in words, why nothing was added; empty where it was
    loss_bound      DOUBLE NOT NULL,      -- highest base loss of coherent text, nats per token
    coherent        DOUBLE NOT NULL,      -- share of samples that are, at that coefficient
    coherent_plain  DOUBLE NOT NULL,      -- the same without steering
    tried           DOUBLE[] NOT NULL,    -- coefficients of the bisection, in order
    tried_coherent  DOUBLE[] NOT NULL,
    tokens          INTEGER NOT NULL,     -- length of each generation
    temperature     DOUBLE NOT NULL,
    measure         VARCHAR NOT NULL      -- of similarity: tfidf | the embedding model's name
);

CREATE TABLE lens_generation (
    experiment_id   VARCHAR NOT NULL,
    prompt          INTEGER NOT NULL,     -- of lib/lens/prompts.py
    kind            VARCHAR NOT NULL,     -- steered | unsteered
    sample          INTEGER NOT NULL,
    coherent        BOOLEAN NOT NULL,
    text            VARCHAR               -- NULL where the fine-tuning corpus is not ours to show
);

CREATE TABLE lens_similarity (
    experiment_id   VARCHAR NOT NULL,
    kind            VARCHAR NOT NULL,     -- steered | unsteered
    corpus          VARCHAR NOT NULL,     -- the experiment's own, or one that it never saw
    similarity      DOUBLE NOT NULL,      -- mean over prompts of the cosine with that corpus, 0..1
    low             DOUBLE, high DOUBLE,  -- 95 %, bootstrap over prompts
    prompts         INTEGER[] NOT NULL,
    prompt_similarity FLOAT[] NOT NULL    -- of each of them, mean over its samples
);

-- Paths in the plane: the experiment's training with one thing varied; no row = not asked for.
CREATE TABLE sweep_point (
    experiment_id   VARCHAR NOT NULL,
    part            VARCHAR NOT NULL,     -- key of the pipeline stage whose rows these are
    path            VARCHAR NOT NULL,     -- rank | checkpoint | scale | mixing
    value           DOUBLE NOT NULL,      -- rank; steps; factor on the adapter; neutral parts for each of the corpus
    rank            INTEGER NOT NULL,
    scale           DOUBLE NOT NULL,
    loss            DOUBLE,               -- training loss, nats per token, mean of the last five steps; NULL = none
    adapter_hash    VARCHAR NOT NULL
);

CREATE TABLE sweep_output (
    experiment_id   VARCHAR NOT NULL,
    path            VARCHAR NOT NULL,
    value           DOUBLE NOT NULL,
    text            VARCHAR NOT NULL,     -- corpus | neutral
    documents       INTEGER NOT NULL,
    tokens          BIGINT NOT NULL,
    kl              DOUBLE NOT NULL, kl_low DOUBLE, kl_high DOUBLE,                 -- KL(tuned || base), nats per token
    agreement       DOUBLE NOT NULL, agreement_low DOUBLE, agreement_high DOUBLE,
    nll             DOUBLE NOT NULL,      -- loss of the tuned model, nats per token
    nll_base        DOUBLE NOT NULL
);

CREATE TABLE sweep_layer (
    experiment_id   VARCHAR NOT NULL,
    path            VARCHAR NOT NULL,
    value           DOUBLE NOT NULL,
    text            VARCHAR NOT NULL,     -- both (corpus and neutral) | neutral
    layer           INTEGER NOT NULL,
    tokens          BIGINT NOT NULL,      -- without massive ones
    displacement    DOUBLE NOT NULL, displacement_low DOUBLE, displacement_high DOUBLE,  -- 1 - debiased CKA
    relative        DOUBLE NOT NULL, relative_low DOUBLE, relative_high DOUBLE,     -- rms of change / rms of base
    offset_share    DOUBLE NOT NULL
);

-- Geometry of adapters (arXiv:2605.28896): dictionaries of tuned - base at each place, for every rank.
CREATE TABLE geometry_place (
    experiment_id   VARCHAR NOT NULL,
    part            VARCHAR NOT NULL,     -- key of the pipeline stage whose rows these are
    rank            INTEGER NOT NULL,
    hook            VARCHAR NOT NULL,     -- mlp | residual
    layer           INTEGER NOT NULL,
    tokens          BIGINT NOT NULL,      -- held-out
    train_tokens    BIGINT NOT NULL,
    latents         INTEGER NOT NULL,
    k               INTEGER NOT NULL,     -- directions per token of the baselines
    pretrained      VARCHAR,              -- name and digest of the dictionary read from a path; null = trained here
    steps           INTEGER NOT NULL,
    stopped         VARCHAR NOT NULL,
    delta_norm      DOUBLE NOT NULL,      -- mean norm of tuned - base
    base_norm       DOUBLE NOT NULL,
    density_per_token DOUBLE, density_per_token_low DOUBLE, density_per_token_high DOUBLE,   -- mean share of latents firing
    density_often   DOUBLE, density_often_low DOUBLE, density_often_high DOUBLE,             -- share firing on over 0.1 % of tokens
    density_effective DOUBLE, density_effective_low DOUBLE, density_effective_high DOUBLE,   -- share of latents that carry the energy
    base_density_per_token DOUBLE, base_density_per_token_low DOUBLE, base_density_per_token_high DOUBLE,
    base_density_often DOUBLE, base_density_often_low DOUBLE, base_density_often_high DOUBLE,
    base_density_effective DOUBLE, base_density_effective_low DOUBLE, base_density_effective_high DOUBLE
);

CREATE TABLE geometry_fit (
    experiment_id   VARCHAR NOT NULL,
    rank            INTEGER NOT NULL,
    hook            VARCHAR NOT NULL,
    layer           INTEGER NOT NULL,
    fit             VARCHAR NOT NULL,     -- lib/geometry/fits.py names and explains them
    fve             DOUBLE, fve_low DOUBLE, fve_high DOUBLE,          -- of held-out deltas, about their mean
    energy          DOUBLE, energy_low DOUBLE, energy_high DOUBLE,    -- of their squares, about 0
    active          DOUBLE,               -- directions per token
    dimensions      INTEGER               -- of the span, where all of it is used
);

-- Scores beside what chance gives; never read without it.
CREATE TABLE geometry_score (
    experiment_id   VARCHAR NOT NULL,
    rank            INTEGER NOT NULL,
    hook            VARCHAR NOT NULL,
    layer           INTEGER NOT NULL,
    score           VARCHAR NOT NULL,     -- signed_max_cosine | absolute_max_cosine | angle (degrees) | cosine_squared | cka
    against         VARCHAR NOT NULL,     -- pretrained | adapter_seeds | pretrained_seeds | base_activations
    value           DOUBLE,
    chance          DOUBLE,               -- what unrelated directions score on average
    chance_sd       DOUBLE,               -- of one score
    distance        DOUBLE,               -- (value - chance) / chance_sd
    errors          DOUBLE,               -- the same in standard errors of a mean of n
    n               INTEGER,
    seed            INTEGER,
    expected        DOUBLE,               -- of cosines: the exact chance if the rows were random too
    k               INTEGER               -- of angles: directions on each side
);

-- What every adapted matrix adds to its own output, (alpha / r) B A x, on held-out text.
CREATE TABLE geometry_added (
    experiment_id   VARCHAR NOT NULL,
    rank            INTEGER NOT NULL,
    module          VARCHAR NOT NULL,
    module_layer    INTEGER,
    kind            VARCHAR NOT NULL,     -- q_proj | k_proj | ...
    tokens          BIGINT NOT NULL,
    relative        DOUBLE NOT NULL, relative_low DOUBLE, relative_high DOUBLE,     -- rms over that of W x
    chance          DOUBLE NOT NULL       -- the same of a random update of equal Frobenius norm
);

-- How much of the stream's change after a block adapted matrices wrote there themselves; no rows where
-- their outputs are not added to the stream as they are.
CREATE TABLE geometry_written (
    experiment_id   VARCHAR NOT NULL,
    rank            INTEGER NOT NULL,
    layer           INTEGER NOT NULL,
    tokens          BIGINT NOT NULL,
    direct          DOUBLE NOT NULL, direct_low DOUBLE, direct_high DOUBLE,         -- 1 - |delta - writes|^2 / |delta|^2
    size            DOUBLE NOT NULL, size_low DOUBLE, size_high DOUBLE,             -- rms of writes / rms of delta
    moved           DOUBLE NOT NULL       -- direct, of the same writes at other tokens
);

CREATE TABLE geometry_module (
    experiment_id   VARCHAR NOT NULL,
    rank            INTEGER NOT NULL,
    module          VARCHAR NOT NULL,
    module_layer    INTEGER,
    kind            VARCHAR NOT NULL,     -- q_proj | k_proj | ...
    lora_rank       INTEGER NOT NULL,
    spectral        DOUBLE NOT NULL,      -- of (alpha / r) B A
    frobenius       DOUBLE NOT NULL,
    entropy_rank    DOUBLE,               -- exp of the entropy of the squared singular values
    stable_rank     DOUBLE,
    share           DOUBLE,               -- of the adapter's squared Frobenius norm
    chance_entropy_rank DOUBLE,           -- of random factors
    chance_stable_rank DOUBLE
);

-- The experiment's own adapter, matrix by matrix, from its files alone; no row = not a plain LoRA.
CREATE TABLE weight_module (
    experiment_id   VARCHAR NOT NULL,
    part            VARCHAR NOT NULL,     -- key of the pipeline stage whose rows these are
    module          VARCHAR NOT NULL,
    layer           INTEGER,              -- NULL = outside the blocks
    kind            VARCHAR NOT NULL,     -- q | k | v | o | gate | up | down | the module's own last name
    outputs         INTEGER NOT NULL,     -- size of the matrix
    inputs          INTEGER NOT NULL,
    lora_rank       INTEGER NOT NULL,     -- rows of A
    spectral        DOUBLE NOT NULL,      -- of (alpha / r) B A, in units of the weights
    frobenius       DOUBLE NOT NULL,
    entropy_rank    DOUBLE,               -- exp of the entropy of the squared singular values; NULL = update of zero
    stable_rank     DOUBLE,
    share           DOUBLE,               -- of the adapter's squared Frobenius norm
    chance_share    DOUBLE NOT NULL,      -- the matrix's share of the adapted weights
    chance_entropy_rank DOUBLE,           -- of random factors
    chance_stable_rank DOUBLE
);

-- Two adapters of one base, matrix by matrix. Each pair is stored once, with the later experiment of one
-- `python -m lib run A.yaml B.yaml`; single precision. NULL = not defined: one of the updates is zero.
CREATE TABLE weight_overlap (
    experiment_id   VARCHAR NOT NULL,
    other_id        VARCHAR NOT NULL,
    other_adapter   VARCHAR NOT NULL,     -- its adapter hash: rows about an adapter made anew are not shown
    seed            BIGINT,               -- of the training; NULL = an adapter that was given
    other_seed      BIGINT,
    module          VARCHAR NOT NULL,
    layer           INTEGER,
    kind            VARCHAR NOT NULL,
    rank            INTEGER NOT NULL,     -- dimensions of the two updates
    other_rank      INTEGER NOT NULL,
    space           VARCHAR NOT NULL,     -- outputs (column space, from B) | inputs (row space, from A) | update (as one vector)
    value           FLOAT,                -- spaces: mean squared cosine of the principal angles; update: cosine, -1..1
    chance          FLOAT,                -- exact: larger rank / d; update: 0
    chance_sd       FLOAT,                -- of one matrix
    distance        FLOAT,                -- (value - chance) / chance_sd
    angle           FLOAT,                -- spaces: mean principal angle, degrees
    angle_chance    FLOAT,                -- simulated
    angle_distance  FLOAT                 -- negative = nearer than chance
);
