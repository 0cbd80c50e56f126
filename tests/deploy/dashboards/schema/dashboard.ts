// Dashboards as JSON, by the types of @grafana/schema.
//
// Its `Dashboard` leaves open what is inside a panel: options, custom field settings, queries.
// Here each kind of panel that we use has the types of its own plugin.
import type {
  Dashboard,
  DataQuery,
  FieldConfig,
  FieldConfigSource,
  Panel,
  RowPanel,
  TableFieldOptions,
} from "@grafana/schema";
import type * as stat from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen.js";
import type * as states from "@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen.js";
import type * as table from "@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen.js";
import type * as timeseries from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen.js";
import type * as xychart from "@grafana/schema/dist/esm/raw/composable/xychart/panelcfg/x/XYChartPanelCfg_types.gen.js";

// As it stands in JSON: an enum is one of its values.
type Json<T> = 0 extends 1 & T
  ? unknown
  : T extends string
    ? `${T}`
    : T extends number | boolean | null | undefined
      ? T
      : T extends (infer Element)[]
        ? Json<Element>[]
        : T extends object
          ? { [Key in keyof T]: Json<T[Key]> }
          : T;

// Not in @grafana/schema: the queries of the Prometheus data source, as it takes them.
interface PrometheusQuery extends Pick<DataQuery, "refId" | "hide" | "datasource"> {
  expr: string;
  format?: "time_series" | "table" | "heatmap";
  instant: boolean;
  legendFormat?: string;
  range: boolean;
}

interface PrometheusAnnotation {
  builtIn?: number;
  datasource: { type: string; uid: string };
  enable: boolean;
  expr: string;
  hide?: boolean;
  iconColor: string;
  name: string;
}

// What an override may set: a misspelt one would do nothing, without a word.
type Property =
  | "custom.axisLabel"
  | "custom.cellOptions"
  | "custom.scaleDistribution"
  | "decimals"
  | "displayName"
  | "links"
  | "mappings"
  | "thresholds"
  | "unit";

interface Fields<Custom> extends Omit<FieldConfigSource, "defaults" | "overrides"> {
  defaults: Omit<FieldConfig, "custom" | "mappings"> & {
    custom?: Custom;
    mappings?: FieldConfig["mappings"];
  };
  overrides: {
    matcher: { id: "byName"; options: string };
    properties: { id: Property; value: unknown }[];
  }[];
}

interface Kind<Type extends string, Options, Custom>
  extends Omit<Panel, "type" | "options" | "fieldConfig" | "targets"> {
  type: Type;
  options: Options;
  fieldConfig: Fields<Custom>;
  targets: PrometheusQuery[];
}

type Known =
  | Kind<"stat", stat.Options, never>
  | Kind<"state-timeline", states.Options, states.FieldConfig>
  | Kind<"table", table.Options, TableFieldOptions>
  | Kind<"timeseries", timeseries.Options, timeseries.FieldConfig>
  | Kind<"xychart", xychart.Options, xychart.FieldConfig>;

interface Ours extends Omit<Dashboard, "panels" | "annotations"> {
  uid: string;
  panels: (Known | RowPanel)[];
  annotations: { list: PrometheusAnnotation[] };
}

export type Made = Json<Ours>;
