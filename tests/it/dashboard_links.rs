//! Links between the Grafana dashboards, and from alerts to dashboards: they lead to a dashboard that exists, and select there
//! by variables that it has.

use std::{collections::BTreeSet, error::Error};

use crate::common::{
    dashboards::{array_at, dashboards, override_values, panels, str_at},
    promql::rules,
};

type Outcome = Result<(), Box<dyn Error>>;

/// The parameters that keep the data source, the selection and the time.
const KEPT: &str = concat!(
    "${datasource:queryparam}&${job:queryparam}&${instance:queryparam}",
    "&var-account=${ACCOUNT}&${__url_time_range}"
);

#[test]
fn links_lead_to_a_dashboard_with_the_same_selection_and_time() -> Outcome {
    let dashboards = dashboards()?;
    let mut count = 0;
    for (name, dashboard) in &dashboards {
        for panel in panels(dashboard) {
            let of_values = array_at(panel, "/fieldConfig/defaults/links").iter();
            let of_columns = override_values(panel, "links").flat_map(|links| array_at(links, ""));
            for link in of_values.chain(of_columns) {
                let place = format!("{name}, {}: {link}", str_at(panel, "/title"));
                let (path, kept) = str_at(link, "/url").split_once('?').ok_or("no variables")?;
                let uid = path.strip_prefix("/d/").unwrap_or_default();
                assert!(dashboards.contains_key(uid) && uid != name, "{place}");
                let account = kept
                    .replace("${__data.fields.Account}", "${ACCOUNT}")
                    .replace("${__field.labels.account}", "${ACCOUNT}");
                assert_eq!(account, KEPT, "{place}");
                count += 1;
            }
        }
    }
    assert!(count >= 6, "{count} links");
    Ok(())
}

/// A link of an alert selects its account by the names that the dashboards have.
#[test]
fn alerts_link_to_dashboards_and_variables_that_exist() -> Outcome {
    let dashboards = dashboards()?;
    for rule in rules()?.into_iter().filter(|rule| rule.annotations.contains_key("dashboard_url")) {
        let template = rule.annotations.get("dashboard_url").map_or("", String::as_str);
        let outside = |part: &str| part.split_once("}}").map_or(part, |(_, rest)| rest).to_owned();
        let url: String = template.split("{{").map(outside).collect();
        let (path, query) = url.split_once('?').unwrap_or((&url, ""));
        let uid = path.rsplit("/d/").next().unwrap_or_default();
        let dashboard = dashboards.get(uid).ok_or_else(|| format!("{:?}: {url}", rule.alert))?;
        let variables: BTreeSet<_> = array_at(dashboard, "/templating/list")
            .iter()
            .map(|variable| str_at(variable, "/name"))
            .collect();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let variable = parameter.strip_prefix("var-").and_then(|rest| rest.split('=').next());
            assert!(variable.is_some_and(|name| variables.contains(name)), "{:?}: {url}", rule.alert);
        }
    }
    Ok(())
}
