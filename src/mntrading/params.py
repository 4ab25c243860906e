"""Every block of ``conf/*/parameters_*.yml`` as a frozen, closed, typed model.

No field has a default: what a run used is what stands in the parameters files. Kedro builds and
validates these models before any node runs, so an unknown name, a wrong type or a value out of bounds
never starts a run. Units are in the field's name or its description.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


def _has_time_zone(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("needs a time zone, such as 2025-01-01T00:00:00Z")
    return moment


Moment = Annotated[datetime, AfterValidator(_has_time_zone)]


class Block(BaseModel):
    """Base of every parameter block: immutable, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# ---------------------------------------------------------------------------------------- shared


def _is_scheduler(address: str) -> str:
    parts = urlsplit(address)
    whole = f"{parts.scheme}://{parts.netloc}" == address and "@" not in address
    if not (whole and parts.scheme in ("tcp", "tls") and parts.hostname and parts.port):
        raise ValueError(f"{address} is no address such as tcp://10.0.0.5:8786 or tls://dask.internal:8786")
    return address


SchedulerAddress = Annotated[str, AfterValidator(_is_scheduler)]


class ComputeParams(Block):
    """Where and how wide the work runs."""

    backend: Literal["threading", "loky", "dask"]
    n_workers: PositiveInt
    scheduler: SchedulerAddress | None

    @model_validator(mode="after")
    def _a_scheduler_goes_with_its_backend(self) -> Self:
        if (self.backend == "dask") != (self.scheduler is not None):
            raise ValueError(
                f"backend is {self.backend} and scheduler {self.scheduler}: a scheduler is for backend: dask, else null"
            )
        return self


class ScheduleParams(Block):
    """The walk-forward schedule: formation, then trading, then one step on."""

    formation_days: PositiveInt
    trading_days: PositiveInt
    step_days: PositiveInt

    @model_validator(mode="after")
    def _windows_do_not_overlap(self) -> Self:
        if self.step_days < self.trading_days:
            raise ValueError(
                f"step_days {self.step_days} is shorter than trading_days {self.trading_days}: trading "
                "windows would overlap and count the same days twice"
            )
        return self


class SimulatorParams(Block):
    """One of the built-in markets. The name ``null`` may arrive as nothing at all: YAML reads it so."""

    name: Literal["demo", "null", "ou", "break", "dirty"]
    seed: Annotated[int, Field(ge=0)]
    n_symbols: PositiveInt | None
    end: Moment

    @field_validator("name", mode="before")
    @classmethod
    def _null_is_a_name(cls, name: object) -> object:
        return "null" if name is None else name


class FilesParams(Block):
    """Bars in a folder or S3 prefix: ``ohlcv_<timeframe>.parquet`` (or ``.csv``, or a folder of them)."""

    path: str | None
    quote: str | None
    as_of: Moment | None


class CcxtParams(Block):
    """Any exchange ccxt knows by this id; public market data only."""

    exchange: str
    base_url: str | None
    max_attempts: PositiveInt
    max_concurrency: PositiveInt


class CustomParams(Block):
    """A source of one's own: the dotted path of its class, and what the class is called with."""

    loader: str | None
    options: dict[str, Any]


class MarketParams(Block):
    """Which source the bars come from, and the settings of each kind of source."""

    source: Literal["simulator", "files", "ccxt", "custom"]
    simulator: SimulatorParams
    files: FilesParams
    ccxt: CcxtParams
    custom: CustomParams


# ------------------------------------------------------------------------------------- ingestion


class ListingParams(Block):
    """Which symbols are ingested when none are listed by name."""

    quote: str
    top_n: PositiveInt | None
    ranked_at: Moment | None
    ranked_days: PositiveInt
    min_age_days: Annotated[int, Field(ge=0)]
    excluded_bases: tuple[str, ...]
    leveraged_suffixes: tuple[str, ...]


class QualityParams(Block):
    """When a row is taken for one in a wrong unit, and when for the first of another coin."""

    max_jump: Annotated[float, Field(gt=1)]
    confirm_bars: PositiveInt
    reuse_gap_hours: Positive
    reuse_jump: Annotated[float, Field(gt=1)]


class IngestionParams(Block):
    """What is fetched: symbols, timeframes and range; what is believed; what is checked before."""

    symbols: tuple[str, ...] | None
    listing: ListingParams
    quality: QualityParams
    screening_timeframe: str
    trading_timeframe: str
    since_utc: Moment
    until_utc: Moment | None
    page_limit: Annotated[int, Field(ge=2)]
    gap_final_days: NonNegative
    verify: Literal["hashes", "sizes"]
    funding: bool


# ------------------------------------------------------------------------------------- screening


class UniverseParams(Block):
    """Which symbols of a formation window may form pairs at all."""

    excluded_bases: tuple[str, ...]
    min_history_fraction: Fraction
    max_gap_fraction: Fraction
    min_median_quote_volume: NonNegative
    min_daily_volatility: NonNegative


def _is_tabulated(level: float) -> float:
    if level not in (0.10, 0.05, 0.01):
        raise ValueError(f"critical values are tabulated for levels 0.10, 0.05 and 0.01, not {level}")
    return level


TabulatedLevel = Annotated[float, AfterValidator(_is_tabulated)]


class ConfirmationParams(Block):
    """Second opinions on the pairs that passed the other gates; a gate that is None is off, a test's lags apart."""

    johansen_level: TabulatedLevel | None
    johansen_lags: Annotated[int, Field(ge=0)]
    kpss_level: TabulatedLevel | None
    kpss_lags: Annotated[int, Field(ge=0)] | None
    n_windows: Annotated[int, Field(ge=2)]
    min_stable_share: Fraction | None
    max_hedge_ratio_drift: Positive | None
    break_level: Annotated[float, Field(ge=0.001, lt=0.5)] | None
    break_trim: Annotated[float, Field(ge=0.05, le=0.25)]


class ScreeningParams(Block):
    """Cointegration tests, multiple testing, gates and the roster's caps."""

    universe: UniverseParams
    max_lag: Annotated[int, Field(ge=0)] | None
    autolag: Literal["aic", "bic"] | None
    trend: Literal["n", "c", "ct"]
    robust: bool
    adjustment: Literal["bh", "by", "bonferroni", "none"]
    level: Fraction
    keep_level: Fraction
    select: Literal["significant", "top_k"]
    top_k: PositiveInt | None
    min_half_life_hours: NonNegative
    max_half_life_hours: Positive
    max_hurst: Fraction
    min_mean_crossings: Annotated[int, Field(ge=0)]
    min_return_correlation: Annotated[float, Field(ge=-1, le=1)]
    max_return_correlation: Annotated[float, Field(ge=-1, le=1)]
    confirmation: ConfirmationParams
    max_pairs_per_symbol: PositiveInt
    max_pairs: PositiveInt
    n_reported: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> Self:
        if self.keep_level < self.level:
            raise ValueError(f"keep_level {self.keep_level} is stricter than level {self.level}")
        if self.min_half_life_hours >= self.max_half_life_hours:
            raise ValueError("min_half_life_hours is not below max_half_life_hours")
        return self

    @model_validator(mode="after")
    def _confirmations_know_the_trend(self) -> Self:
        levels = ("johansen_level", "kpss_level", "min_stable_share", "max_hedge_ratio_drift", "break_level")
        on = [name for name in levels if getattr(self.confirmation, name) is not None]
        if on and self.trend != "c":
            raise ValueError(f"confirmation.{on[0]} assumes trend: c, not {self.trend}: set it to null")
        return self

    @model_validator(mode="after")
    def _top_k_goes_with_its_selection(self) -> Self:
        if (self.select == "top_k") != (self.top_k is not None):
            raise ValueError(f"select is {self.select} and top_k {self.top_k}: top_k is for select: top_k, else null")
        if self.robust and self.select == "top_k":
            raise ValueError("robust is for select: significant: only pairs near the level are tested so")
        return self


# --------------------------------------------------------------------------- feature engineering


class KalmanParams(Block):
    """How fast the hedge of ``hedge: kalman`` may change: variance of a step over that of the spread, d / (1 - d)."""

    delta: Annotated[float, Field(gt=0, lt=1)]


def _are_different(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError(f"a name stands twice in {list(names)}")
    return names


class FeatureParams(Block):
    """The spread's windows (in trading bars) and the features built on it, by name."""

    price: Literal["log", "level"]
    hedge: Literal["ols", "kalman"]
    kalman: KalmanParams
    beta_window: Annotated[int, Field(ge=10)]
    z_window: Annotated[int, Field(ge=10)]
    hedge_lag_bars: Annotated[int, Field(ge=0)]
    min_window_fill: Annotated[float, Field(gt=0, le=1)]
    volatility_window: Annotated[int, Field(ge=10)]
    market_window_hours: Annotated[int, Field(ge=2)]
    lag_features: Annotated[int, Field(ge=0)]
    include: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_are_different)]


class CostParams(Block):
    """What trading costs, per leg and side unless said otherwise."""

    fee_rate: NonNegative
    slippage_bps: NonNegative
    impact_bps: NonNegative
    carry: Literal["borrow", "funding"]
    borrow_bps_per_day: NonNegative


class NetPnlParams(Block):
    """The trade behind ``label_type: net_pnl``: its barriers, fills and costs."""

    barriers_in: Literal["deviations", "notional"]
    take_profit: Positive
    stop_loss: Positive
    fill_at: Literal["open", "close"]
    costs: CostParams


class LabelParams(Block):
    """What a model learns to predict; all windows in trading bars."""

    label_type: Literal["z_threshold", "revert_direction", "net_pnl"]
    zscore_threshold: Positive
    revert_z: NonNegative
    horizon: PositiveInt
    net_pnl: NetPnlParams

    @model_validator(mode="after")
    def _a_trade_has_two_fills(self) -> Self:
        if self.label_type == "net_pnl" and self.horizon < 2:
            raise ValueError("horizon is 1: a trade is filled on the bar after its row, and its exit on one after that")
        return self

    @model_validator(mode="after")
    def _reverts_below_the_threshold(self) -> Self:
        if self.revert_z >= self.zscore_threshold:
            raise ValueError(f"revert_z {self.revert_z} is not below zscore_threshold {self.zscore_threshold}")
        return self


class FeatureEngineeringParams(Block):
    """Features and labels."""

    features: FeatureParams
    labels: LabelParams


# ------------------------------------------------------------------------------------- modelling

ModelName = Literal["logistic_regression", "random_forest", "lightgbm", "xgboost", "catboost"]
OpenFraction = Annotated[float, Field(gt=0, le=1)]


class LogisticRegressionParams(Block):
    """Ridge-penalised logistic regression on standardised features."""

    C: Positive
    max_iter: PositiveInt


class RandomForestParams(Block):
    """Forest of deep-ish trees on a share of the rows each."""

    n_estimators: PositiveInt
    max_depth: PositiveInt
    min_samples_leaf: PositiveInt
    max_samples: OpenFraction
    max_features: Literal["sqrt", "log2"] | OpenFraction


class LightGBMParams(Block):
    """Boosted trees; a leaf holds ``min_leaf_share`` of the rows, within the two bounds."""

    rounds: PositiveInt
    learning_rate: OpenFraction
    num_leaves: Annotated[int, Field(ge=2)]
    min_leaf_share: OpenFraction
    min_leaf_rows: PositiveInt
    max_leaf_rows: PositiveInt
    feature_fraction: OpenFraction
    bagging_fraction: OpenFraction
    lambda_l2: NonNegative


class XGBoostParams(Block):
    """Boosted trees; needs the package's extra ``xgboost``."""

    rounds: PositiveInt
    learning_rate: OpenFraction
    max_depth: PositiveInt
    min_child_weight: NonNegative
    colsample_bytree: OpenFraction
    subsample: OpenFraction
    reg_lambda: NonNegative


class CatBoostParams(Block):
    """Boosted symmetric trees; needs the package's extra ``catboost``."""

    rounds: PositiveInt
    learning_rate: OpenFraction
    depth: Annotated[int, Field(ge=1, le=16)]
    min_data_in_leaf: PositiveInt
    rsm: OpenFraction
    subsample: OpenFraction
    l2_leaf_reg: NonNegative


class EstimatorsParams(Block):
    """Hyper-parameters of every estimator by its name."""

    logistic_regression: LogisticRegressionParams
    random_forest: RandomForestParams
    lightgbm: LightGBMParams
    xgboost: XGBoostParams
    catboost: CatBoostParams


class EarlyStoppingParams(Block):
    """When a booster stops: judged on the latest share of its own training rows, purged and embargoed."""

    patience: PositiveInt | None
    validation_share: Annotated[float, Field(gt=0, le=0.5)]


class ThresholdParams(Block):
    """The probability a model asks for: the strategy's fixed one, or one chosen on out-of-fold rows."""

    choose: Literal["fixed", "expected_value", "precision", "f_beta"]
    min_share: OpenFraction
    margin: NonNegative
    precision: Fraction
    beta: Positive


class NoveltyParams(Block):
    """When a row is unlike the training window, and whether that bars entries."""

    quantile: Annotated[float, Field(gt=0.5, lt=1)]
    blocks_entry: bool


class SearchParams(Block):
    """Search for hyper-parameters inside the rows a fit is given; 0 trials for none."""

    trials: Annotated[int, Field(ge=0)]
    n_groups: Annotated[int, Field(ge=2)]
    n_test_groups: PositiveInt
    space: dict[str, tuple[float, float]]

    @model_validator(mode="after")
    def _ranges_are_those_of_hyper_parameters(self) -> Self:
        for name, (low, high) in self.space.items():
            estimator, _, field = name.partition(".")
            block = EstimatorsParams.model_fields.get(estimator)
            known = getattr(block.annotation, "model_fields", {}) if block else {}
            if field not in known:
                raise ValueError(f"{name!r} is no hyper-parameter of an estimator, such as lightgbm.num_leaves")
            if not 0 < low < high:
                raise ValueError(f"the range of {name} is {low} to {high}, expected 0 < low < high")
        if self.n_test_groups >= self.n_groups:
            raise ValueError(f"n_test_groups {self.n_test_groups} is not below n_groups {self.n_groups}")
        return self


class EvaluationParams(Block):
    """How finely models are described; describing changes no model."""

    bins: Annotated[int, Field(ge=2, le=50)]
    curve_points: Annotated[int, Field(ge=2, le=500)]
    permutation_rows: Annotated[int, Field(ge=0)]
    group_lags: bool


class ModellingParams(Block):
    """Estimators, their cross-validation and what a group needs before it gets a model."""

    models: Annotated[tuple[ModelName, ...], Field(min_length=1)]
    scope: Literal["pooled", "pair"]
    n_splits: Annotated[int, Field(ge=2)]
    gap: Annotated[int, Field(ge=0)]
    max_train_size: PositiveInt | None
    min_events: PositiveInt
    sample_weights: Literal["uniqueness", "none"]
    calibration: Literal["isotonic", "sigmoid", "none"]
    early_stopping: EarlyStoppingParams
    threshold: ThresholdParams
    novelty: NoveltyParams
    search: SearchParams
    evaluation: EvaluationParams
    estimators: EstimatorsParams
    seed: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _models_are_named_once(self) -> Self:
        if len(set(self.models)) < len(self.models):
            raise ValueError(f"models {list(self.models)} names one twice")
        return self


# ----------------------------------------------------------------------------------- backtesting


class BreakMonitorParams(Block):
    """When a pair's relation counts as broken: an ADF test on the spread with the hedge ratio held still."""

    max_p_value: Annotated[float, Field(gt=0, lt=1)] | None
    window_bars: PositiveInt
    stride_bars: PositiveInt
    lags: Annotated[int, Field(ge=0, le=20)]
    every_bars: PositiveInt

    @model_validator(mode="after")
    def _the_window_holds_a_regression(self) -> Self:
        points = self.window_bars // self.stride_bars
        if points < 4 * (self.lags + 3):
            raise ValueError(
                f"window_bars {self.window_bars} holds {points} points {self.stride_bars} bars apart, too few for "
                f"{self.lags} lags: {4 * (self.lags + 3)} are needed"
            )
        return self


class StrategyParams(Block):
    """The decision rule, in units of z and of the pair's half-life."""

    signals_from: Literal["auto", "model", "z"]
    probability_threshold: Fraction
    entry_z: Positive
    exit_z: NonNegative
    stop_z: Positive
    max_holding_half_lives: Positive
    max_loss: Annotated[float, Field(gt=0)] | None
    cooldown_bars: Annotated[int, Field(ge=0)]
    min_hedge_ratio: Positive
    max_hedge_ratio: Positive
    break_monitor: BreakMonitorParams

    @model_validator(mode="after")
    def _levels_are_ordered(self) -> Self:
        if not self.exit_z < self.entry_z < self.stop_z:
            raise ValueError(f"expected exit_z < entry_z < stop_z, got {self.exit_z}, {self.entry_z}, {self.stop_z}")
        if self.min_hedge_ratio >= self.max_hedge_ratio:
            raise ValueError("min_hedge_ratio is not below max_hedge_ratio")
        return self


class LeggingParams(Block):
    """A scenario: the share of fills at which the independent leg is filled one bar later than the dependent one."""

    probability: Fraction
    seed: Annotated[int, Field(ge=0)]


class MenuParams(Block):
    """The candidates a pair's rule is chosen from, inside its formation window; the configured one is always one."""

    enabled: bool
    windows: tuple[tuple[Annotated[int, Field(ge=10)], Annotated[int, Field(ge=10)]], ...]
    half_life_multiples: tuple[Positive, ...]
    entry_z: tuple[Positive, ...]
    exit_z: tuple[NonNegative, ...]
    stop_z: tuple[Positive, ...]
    optimal: bool
    min_profit_bps: NonNegative
    cost_multiple: Annotated[float, Field(ge=1)]
    n_blocks: Annotated[int, Field(ge=2)]
    max_overfitting: Fraction


class BacktestParams(Block):
    """How decisions become trades."""

    strategy: StrategyParams
    costs: CostParams
    fill_at: Literal["open", "close"]
    legging: LeggingParams
    menu: MenuParams


class StatisticsParams(Block):
    """Confidence level and resampling of the reported figures."""

    level: Annotated[float, Field(gt=0.5, lt=1)]
    n_boot: PositiveInt
    seed: Annotated[int, Field(ge=0)]
    pbo_splits: Annotated[int, Field(ge=2, le=20, multiple_of=2)]


class BenchmarkParams(Block):
    """Lines to hold the portfolios against."""

    placebo_seed: Annotated[int, Field(ge=0)]


class RobustnessParams(Block):
    """What the whole-roster portfolio is traded again with; steps of z are added to the strategy's own levels."""

    cost_multiple: Annotated[float, Field(ge=1)]
    shift_bars: PositiveInt
    entry_z_steps: tuple[float, ...]
    exit_z_steps: tuple[float, ...]
    legging: LeggingParams


# ------------------------------------------------------------------------------------ deployment


class ClusterParams(Block):
    """When pairs count as moving together."""

    linkage: Literal["single", "average"]
    min_correlation: OpenFraction
    min_days: Annotated[int, Field(ge=3)]


class ChampionParams(Block):
    """What a pair's out-of-sample record must show before money follows it."""

    min_sharpe: float
    max_drawdown: Fraction
    min_trades: Annotated[int, Field(ge=0)]
    min_positive_folds: Fraction
    min_deflated_sharpe: Fraction
    survives_cost_multiple: Annotated[float, Field(ge=1)]
    max_pairs_per_symbol: PositiveInt
    max_pairs_per_cluster: PositiveInt
    clusters: ClusterParams
    n_challengers: Annotated[int, Field(ge=0)]


class SizingParams(Block):
    """How an entry's size in multiples of ``pair_gross`` follows from its spread.

    The reference pair, traded with ``pair_gross``, has ``reference_std`` as deviation of its spread per unit of the
    pair's notional.
    """

    rule: Literal["equal_notional", "inverse_risk"]
    reference_std: Positive
    reference_half_life_hours: Positive
    low: Positive
    high: Positive

    @model_validator(mode="after")
    def _multiples_are_in_order(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self


class PortfolioParams(Block):
    """Sizes and caps, as fractions of the portfolio's equity unless said otherwise; null is no cap."""

    capital: Positive
    top_k: PositiveInt
    pair_gross: Positive
    sizing: SizingParams
    max_symbol_weight: Positive
    max_cluster_gross: Positive
    max_gross: Positive
    max_net: Positive
    volatility_target: Positive | None
    pair_correlation: Fraction
    max_daily_turnover: Positive | None
    max_hedge_error: NonNegative
    allow_short: bool
    kill_switch: Literal["active", "reducing", "halted"]


class ShadowParams(Block):
    """Challengers that trade on paper beside production, and what their record needs before it may take them in."""

    enabled: bool
    max_challengers: PositiveInt
    min_days: Annotated[int, Field(ge=0)]
    min_trades: Annotated[int, Field(ge=0)]
    min_return_gap: Annotated[float, Field(ge=0, lt=1)]
    min_gap_errors: NonNegative | None
    max_drawdown: Annotated[float, Field(gt=0, le=1)]


class ProductionParams(Block):
    """How long a promoted configuration may be used, which one a rollback goes to (None: the one before), shadow."""

    valid_days: PositiveInt
    rollback_to: Annotated[str, Field(pattern="^[0-9a-f]{1,64}$")] | None
    shadow: ShadowParams

    @field_validator("rollback_to", mode="before")
    @classmethod
    def _an_id_is_text(cls, value: object) -> object:
        if isinstance(value, int | float):
            raise ValueError(f"{value} was read as a number: give more characters of the id, up to one in a to f")
        return value


class DriftParams(Block):
    """When a feature, or a model's answers, count as drifted: both limits must be broken."""

    max_psi: Positive
    level: Annotated[float, Field(gt=0, lt=0.5)]


class CalibrationLimits(Block):
    """When probabilities count as wrong; errors are standard errors."""

    max_gap: Annotated[float, Field(gt=0, lt=1)]
    max_errors: Positive


class RelationLimits(Block):
    """When a pair's relation counts as gone."""

    max_p_value: Annotated[float, Field(gt=0, lt=1)]
    max_half_life_ratio: Annotated[float, Field(gt=1)]
    max_hedge_ratio_drift: Positive
    max_break_p_value: Annotated[float, Field(gt=0, lt=1)]
    min_known: Fraction


CheckKind = Literal["data", "model", "drift", "scores", "calibration", "relation"]


class ReducingParams(Block):
    """Whether, and by which breaches in how many of the pairs, monitoring sets the kill switch to reducing."""

    may_reduce: bool
    kinds: Annotated[tuple[CheckKind, ...], AfterValidator(_are_different)]
    min_share: OpenFraction


class MonitoringParams(Block):
    """What is watched in production, and the limits it is held to."""

    window_days: PositiveInt
    min_independent: Annotated[float, Field(ge=2)]
    max_data_age_bars: Annotated[int, Field(ge=0)]
    drift: DriftParams
    calibration: CalibrationLimits
    relation: RelationLimits
    reducing: ReducingParams


# ------------------------------------------------------------------------------------- reporting


class ReportingParams(Block):
    """What the report shows."""

    title: str
    max_points: Annotated[int, Field(ge=100, le=5000)]
    n_table_rows: PositiveInt


class UploadParams(Block):
    """What goes into the bucket, and how."""

    folders: Annotated[tuple[str, ...], Field(min_length=1)]
    prefix: str
    workers: Annotated[int, Field(ge=1, le=32)]
    read_back: bool


BLOCKS: dict[str, type[Block]] = {
    "compute": ComputeParams,
    "schedule": ScheduleParams,
    "market": MarketParams,
    "ingestion": IngestionParams,
    "screening": ScreeningParams,
    "feature_engineering": FeatureEngineeringParams,
    "modelling": ModellingParams,
    "backtest": BacktestParams,
    "statistics": StatisticsParams,
    "benchmarks": BenchmarkParams,
    "robustness": RobustnessParams,
    "champions": ChampionParams,
    "portfolio": PortfolioParams,
    "production": ProductionParams,
    "monitoring": MonitoringParams,
    "reporting": ReportingParams,
    "upload": UploadParams,
}
"""Top-level parameter keys and the model of each; no other top-level key is accepted."""
