"""The live lens: the two models read a prompt of the reader's, and every token can be looked into."""

from dataclasses import replace
from functools import partial

import streamlit as st

from lib.ablation import AblationError
from lib.ablation.looking import SCALE_LIMIT, TOP_LIMIT, LensRequest, LensResult
from lib.ui import (
    ablation_address,
    ablation_clients,
    ablation_controls,
    ablation_examples,
    ablation_run,
    cache,
)
from lib.ui import lens_live_tokens as found
from lib.ui.ablation_controls import Options
from lib.ui.frame import url_choice
from lib.ui.links import warnings_in

VIEW, SCOPE = "lens", "lens_scope"
"""Slots of ``ablation_run``: the prompt's run, and Patchscope of one of its tokens."""
TOKEN, SCOPED = "live_token", "live_scope"
"""Query parameters: the token that is read, and the one whose Patchscope was asked for."""
_SHOWN = "lens:live:shown"
_CHAT = {"no": "as it is", "yes": "as a chat turn"}


def show(experiment_id: str) -> None:
    """Controls, the coloured prompt, the picked token's readings, and all tokens as a table."""
    try:
        info, _ = ablation_clients.bundle(experiment_id)
    except AblationError as problem:
        st.info(f"This experiment cannot be run live: {problem}", icon=":material/science_off:")
        st.code(
            "python -m lib run FILE.yaml        # the experiment's file, with `keep: full`\n"
            "git checkout precomputed/live      # the committed bundles, if they were lost",
            language="bash",
        )
        return
    ablation_run.entered(VIEW)
    row = st.columns([2.6, 2.2, 1.6, 1.5, 1.3, 1.3, 1.2], vertical_alignment="bottom")
    with warnings_in(st.container()):
        with row[5].popover("Run as", width="stretch"):
            options = ablation_controls.options(experiment_id, info, "lens")
        request = _ask(experiment_id, row)
    with row[6]:
        ablation_run.button(VIEW, "lens", request, options)
    result: LensResult | None = ablation_run.follow(VIEW, experiment_id)
    if result is not None:
        _finished(result, request, options)
    elif not ablation_run.slot(VIEW).ticket:
        st.info(
            "Press Run. Both models read the prompt, and every token is coloured by how far tuned "
            "has moved from base there. The first run starts the model, which takes about twenty "
            "seconds; later ones take one or two.",
            icon=":material/search:",
        )


def _ask(experiment_id: str, row: list) -> LensRequest | None:
    n_layers = cache.experiment(experiment_id)["n_layers"]
    layer = None
    if isinstance(n_layers, int) and n_layers > 1:
        with row[0]:
            layer = ablation_address.number(
                "After layer", "live_layer", n_layers // 2, st.slider, 0, n_layers - 1,
                help="The residual stream after this block; the middle one by default",
            )  # fmt: skip
    with row[1]:
        scale = ablation_address.number(
            "Strength of the adapter", "live_scale", 1.0, partial(st.slider, step=0.05),
            0.0, SCALE_LIMIT, help="0 = base, 1 = tuned, 2 = twice the fine-tune",
        )  # fmt: skip
    with row[2]:
        chat = url_choice(
            "Send the prompt", list(_CHAT), "live_chat", format_func=_CHAT.__getitem__,
            help="As a chat turn where the model's tokenizer has a chat template",
        )  # fmt: skip
    with row[3]:
        k = ablation_address.number(
            "Tokens read", "live_k", 10, st.number_input, 1, TOP_LIMIT,
            help="Of each reading, most probable first",
        )  # fmt: skip
    with row[4].popover("Examples", width="stretch"):
        ablation_examples.example(experiment_id)
    prompt = ablation_examples.prompt(experiment_id)
    try:
        return LensRequest(
            experiment_id=experiment_id, prompt=prompt, layer=layer, k=k, scale_lora=scale,
            chat=chat == "yes",
        )  # fmt: skip
    except AblationError as problem:
        st.warning(f"This cannot be run: {problem}")
        return None


def _finished(result: LensResult, asked: LensRequest | None, options: Options) -> None:
    if result.request != asked:
        st.caption(
            ":material/history: This result belongs to other settings than the controls above. "
            "Press Run for these."
        )
    place = st.container()
    picked = _pick(result)
    with place:
        st.html(found.strip(result, picked))
        st.markdown(found.verdict(result))
    _token(result, picked, options)
    st.markdown("**Every token**")
    st.dataframe(
        found.table(result), hide_index=True, width="stretch", column_config=found.COLUMNS,
        on_select=_row_chosen, selection_mode="single-row", key="lens:live:table",
    )  # fmt: skip
    st.caption(
        f"Choose a row to read that token. Run `{result.request.id}` on {result.device}: "
        f"{result.base_model}, residual stream after layer {result.layer}; {result.seconds:.2f} s."
    )
    st.button(
        "Run it anew", icon=":material/replay:", on_click=_replay, args=(result, options),
        disabled=not options.ready, help="Once more, and say whether every number is the same",
    )  # fmt: skip


def _replay(result: LensResult, options: Options) -> None:
    at = ablation_run.slot(VIEW)
    at.failed = at.note = ""
    at.device = options.device
    try:
        client = ablation_clients.client(options.device)
        at.ticket = client.replay(result.request.id, viewer=ablation_run.viewer())
    except AblationError as problem:
        at.failed = str(problem)


def _pick(result: LensResult) -> int:
    """The token that is read; one of a longer prompt before it is dropped without a warning."""
    known, last = range(len(result.tokens)), st.session_state.get(_SHOWN)
    if last not in (None, result.request.id):
        asked = st.query_params.get(TOKEN, "0")
        if asked.isdecimal() and int(asked) not in known:
            st.query_params.pop(TOKEN, None)
    st.session_state[_SHOWN] = result.request.id
    return url_choice(
        "Token to read", list(known), TOKEN, found.most_moved(result),
        format_func=lambda at: found.label(result, at),
        help="The one that moves most by default; type to search",
    )  # fmt: skip


def _row_chosen() -> None:
    rows = st.session_state["lens:live:table"].selection.rows
    if rows:
        st.query_params[TOKEN] = str(rows[0])


def _token(result: LensResult, picked: int, options: Options) -> None:
    """What one token's streams say, and Patchscope beside them."""
    token = result.tokens[picked]
    read, scoped = st.columns([4, 1.5], gap="medium")
    with read:
        if token.base:
            st.dataframe(found.readings(token), hide_index=True, width="stretch")
        else:
            st.info(f"This run read token {result.request.position} alone. Press Run for all.")
        if not token.norm:
            st.caption("The difference is 0 here: there is nothing to read in it.")
    with scoped:
        _patchscope(result, picked, options)


def _patchscope(result: LensResult, picked: int, options: Options) -> None:
    request = replace(result.request, position=picked, patchscope=True)
    at = ablation_run.slot(SCOPE)
    nothing = not result.tokens[picked].norm
    pressed = st.button(
        "Patchscope of this token", icon=":material/record_voice_over:", width="stretch",
        disabled=nothing or not options.ready, key="lens:live:scope",
    )  # fmt: skip
    if pressed:
        st.query_params[SCOPED] = str(picked)
    linked = st.query_params.get(SCOPED) == str(picked) and at.asked != request.id
    if options.ready and not nothing and (pressed or linked):
        ablation_run.start(SCOPE, request, options, linked=False)
    answer: LensResult | None = ablation_run.follow(SCOPE, request.experiment_id)
    if answer is None or answer.request != request or answer.scope is None:
        if not at.ticket:
            st.caption("The tuned model itself says what the difference here stands for.")
        return
    st.dataframe(found.scope(answer.scope.tokens), hide_index=True, width="stretch")
    st.caption(found.scoped(answer.scope))
