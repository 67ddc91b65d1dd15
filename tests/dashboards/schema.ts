// The type of a dashboard, built from Grafana's published schema (@grafana/schema). The type is strict: a dashboard can have
// only keys and values that the schema knows. tests/it/dashboard_json.rs writes each dashboard as a literal of this type, and
// the TypeScript compiler checks it.
//
// The schema does not define what plugins define: queries, transformations and properties of overrides. This file defines
// them, with the schema's own types where there is one.

import type * as grafana from '@grafana/schema';
import type * as dashboard from '@grafana/schema/dist/esm/raw/dashboard/x/Dashboard_types.gen';
import type * as heatmap from '@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen';
import type * as stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as timeline from '@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen';
import type * as table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as timeseries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

/** The JSON form of a type: a value of a string enum is its text. */
type Json<T> = unknown extends T
  ? T
  : T extends string
    ? `${T}`
    : T extends object
      ? { [K in keyof T]: Json<T[K]> }
      : T;

type With<T, U> = Omit<T, keyof U> & U;

interface Query {
  refId: string;
  datasource: grafana.DataSourceRef;
  editorMode: 'code';
  expr: string;
  legendFormat: string;
  instant: boolean;
  range: boolean;
  format: 'time_series' | 'table' | 'heatmap';
}

type Property =
  | { id: 'unit' | 'noValue'; value: string }
  | { id: 'decimals' | 'min' | 'max' | 'custom.lineWidth'; value: number }
  | { id: 'mappings'; value: grafana.ValueMapping[] }
  | { id: 'thresholds'; value: grafana.ThresholdsConfig }
  | { id: 'color'; value: dashboard.FieldColor }
  | { id: 'links'; value: Array<{ title: string; url: string }> }
  | { id: 'custom.align'; value: 'left' }
  | { id: 'custom.cellOptions'; value: grafana.TableCellOptions }
  | { id: 'custom.hideFrom'; value: grafana.HideSeriesConfig }
  | { id: 'custom.lineStyle'; value: grafana.LineStyle };

interface Override {
  matcher: { id: 'byName' | 'byRegexp' | 'byFrameRefID'; options: string };
  properties: Property[];
}

type Transformation =
  | { id: 'merge'; options: Record<string, never> }
  | {
      id: 'organize';
      options: {
        excludeByName: Record<string, boolean>;
        includeByName: Record<string, boolean>;
        indexByName: Record<string, number>;
        renameByName: Record<string, string>;
      };
    };

type Panel<Type extends string, Options, Custom> = With<
  dashboard.Panel,
  {
    type: Type;
    title: string;
    description: string;
    datasource: grafana.DataSourceRef;
    gridPos: dashboard.GridPos;
    options: Options;
    fieldConfig: {
      defaults: With<dashboard.FieldConfig, { unit: string; noValue: string; custom?: Custom }>;
      overrides: Override[];
    };
    targets: Query[];
    transformations?: Transformation[];
  }
>;

/** grafana-foundation-sdk always writes a hidden footer, which newer versions of Grafana's schema omit. */
type TableOptions = table.Options & { footer?: { show: false; reducer: never[]; countRows: false } };

type AnyPanel =
  | Panel<'heatmap', heatmap.Options, heatmap.FieldConfig>
  | Panel<'stat', stat.Options, never>
  | Panel<'state-timeline', timeline.Options, timeline.FieldConfig>
  | Panel<'table', TableOptions, table.FieldConfig>
  | Panel<'timeseries', timeseries.Options, timeseries.FieldConfig>
  | With<dashboard.RowPanel, { panels: AnyPanel[] }>;

/** The Prometheus data source uses the last three keys for the texts of an annotation. */
type Annotation = With<
  dashboard.AnnotationQuery,
  { target: { refId: string; expr: string; interval: string }; titleFormat: string; textFormat: string; tagKeys: string }
>;

/** grafana-foundation-sdk writes the defaults of interval variables into every variable. */
type Variable = dashboard.VariableModel & { auto?: false; auto_count?: 30; auto_min?: '10s' };

export type Dashboard = Json<
  With<
    dashboard.Dashboard,
    {
      uid: string;
      title: string;
      panels: AnyPanel[];
      annotations: { list: Annotation[] };
      templating: { list: Variable[] };
    }
  >
>;
