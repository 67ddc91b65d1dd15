//! The structure of the source: the modules that a file may name, and that no files import each other.
//!
//! [`read_sources`] resolves every path of every file that begins with `crate`, `super` or `self`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// A path from the crate root, such as `["simulator", "query", "decode_percent"]`.
type CratePath = Vec<String>;

/// A file of src, its module, and the paths that it names.
struct SourceFile {
    file: PathBuf,
    module: CratePath,
    named: BTreeSet<CratePath>,
    /// The paths that it names outside of its tests.
    imports: BTreeSet<CratePath>,
}

/// Reads every file of the library. The program's `main.rs` is not part of it.
fn read_sources() -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let file = path.strip_prefix(&root).unwrap().to_owned();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && file != Path::new("main.rs")
            {
                let module = module_path(&file);
                let text = fs::read_to_string(path).unwrap();
                let named = find_named_paths(&text, &module);
                let imports = find_imports(&text, &module);
                sources.push(SourceFile { file, module, named, imports });
            }
        }
    }
    sources
}

/// The module of a file: `web/mod.rs` is `web`, `web/tls.rs` is `web::tls`, `lib.rs` is the root.
fn module_path(file: &Path) -> CratePath {
    let names = file.with_extension("");
    let names = names.iter().map(|name| name.to_str().unwrap().to_owned());
    names.filter(|name| name != "mod" && name != "lib").collect()
}

/// Finds every path in `text` that begins with `crate`, `super` or `self`, and resolves it from the crate root.
fn find_named_paths(text: &str, module: &CratePath) -> BTreeSet<CratePath> {
    let tokens: TokenStream = text.parse().unwrap();
    let mut named = BTreeSet::new();
    collect_paths(&tokens.into_iter().collect::<Vec<_>>(), module, &mut named);
    named
}

/// Finds the paths that the items of `text` outside of its tests name, by `crate`, `super`, `self` or the name of a
/// module that the file declares.
fn find_imports(text: &str, module: &CratePath) -> BTreeSet<CratePath> {
    let tokens: Vec<_> = text.parse::<TokenStream>().unwrap().into_iter().collect();
    let tokens = without_test_items(&tokens);
    let mut imports = BTreeSet::new();
    collect_paths(&tokens, module, &mut imports);
    for pair in tokens.windows(2) {
        if let [TokenTree::Ident(keyword), TokenTree::Ident(child)] = pair
            && keyword == "mod"
        {
            collect_child_paths(&tokens, &child.to_string(), module, &mut imports);
        }
    }
    imports
}

/// Leaves out the items that have the attribute `#[cfg(test)]`.
fn without_test_items(tokens: &[TokenTree]) -> Vec<TokenTree> {
    let is_cfg_test = |token: &TokenTree| token.to_string().replace(' ', "") == "[cfg(test)]";
    let ends_item = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        _ => false,
    };
    let mut kept = Vec::new();
    let mut rest = tokens.iter();
    while let Some(token) = rest.next() {
        if is_cfg_test(token) {
            kept.pop(); // the `#` before it
            let mut item = Vec::new();
            for token in rest.by_ref() {
                let is_end = ends_item(token) && !is_separator_end(&item);
                item.push(token.clone());
                if is_end {
                    break;
                }
            }
        } else {
            kept.push(token.clone());
        }
    }
    kept
}

/// Whether the last two of `tokens` are `::`.
fn is_separator_end(tokens: &[TokenTree]) -> bool {
    tokens.len() >= 2 && is_separator(&tokens[tokens.len() - 2..])
}

/// Adds the paths that begin with the name of the module `child`, which the file declares.
fn collect_child_paths(
    tokens: &[TokenTree],
    child: &str,
    module: &CratePath,
    named: &mut BTreeSet<CratePath>,
) {
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => collect_child_paths(&group_tokens(group), child, module, named),
            TokenTree::Ident(name)
                if name == child && is_separator(&tokens[at + 1..]) && !is_separator_end(&tokens[..at]) =>
            {
                let base = [module.as_slice(), &[child.to_owned()]].concat();
                resolve_path(&tokens[at + 3..], base, named);
            }
            _ => {}
        }
    }
}

fn collect_paths(tokens: &[TokenTree], module: &CratePath, named: &mut BTreeSet<CratePath>) {
    let mut rest = tokens;
    while let [first, after @ ..] = rest {
        rest = match (first, after) {
            (TokenTree::Ident(keyword), [TokenTree::Ident(name), TokenTree::Group(body), after @ ..])
                if keyword == "mod" =>
            {
                let inner = [module.as_slice(), &[name.to_string()]].concat();
                collect_paths(&group_tokens(body), &inner, named);
                after
            }
            (TokenTree::Ident(start), _) if is_separator(after) => match start.to_string().as_str() {
                "crate" => resolve_path(&after[2..], Vec::new(), named),
                "self" => resolve_path(&after[2..], module.clone(), named),
                "super" => resolve_path(&after[2..], parent(module.clone()), named),
                _ => after,
            },
            (TokenTree::Group(group), _) => {
                collect_paths(&group_tokens(group), module, named);
                after
            }
            _ => after,
        }
    }
}

/// Adds the paths that begin with `base` and continue with these tokens: one name, or a group of them. Returns the tokens
/// after the path.
fn resolve_path<'a>(
    tokens: &'a [TokenTree],
    mut base: CratePath,
    named: &mut BTreeSet<CratePath>,
) -> &'a [TokenTree] {
    match tokens {
        [TokenTree::Ident(name), after @ ..] => {
            match name.to_string().as_str() {
                "super" => base = parent(base),
                "self" => {}
                name => base.push(name.to_owned()),
            }
            if is_separator(after) {
                return resolve_path(&after[2..], base, named);
            }
            named.insert(base);
            after
        }
        [TokenTree::Group(group), after @ ..] if group.delimiter() == Delimiter::Brace => {
            let is_comma =
                |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',');
            let members = group_tokens(group);
            for member in members.split(is_comma).filter(|member| !member.is_empty()) {
                resolve_path(member, base.clone(), named);
            }
            after
        }
        _ => {
            named.insert(base); // a glob, or a generic argument
            tokens
        }
    }
}

fn group_tokens(group: &Group) -> Vec<TokenTree> {
    group.stream().into_iter().collect()
}

fn is_separator(tokens: &[TokenTree]) -> bool {
    let is_colon = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ':');
    matches!(tokens, [first, second, ..] if is_colon(first) && is_colon(second))
}

fn parent(mut module: CratePath) -> CratePath {
    module.pop().expect("super of the crate root");
    module
}

#[test]
fn paths_are_resolved_from_the_crate_root() {
    let text = r#"
        // use crate::comment::A;
        use crate::{a::B, c::{self, d::*}};
        use super::{super::E, f::G as H};
        fn run() -> &'static str { self::i::<J>(); self.k(); "crate::text" }
        mod tests { use super::super::L; }
    "#;
    let module = ["m", "n"].map(str::to_owned).to_vec();
    let named: Vec<_> = find_named_paths(text, &module).iter().map(|path| path.join("::")).collect();
    assert_eq!(named, ["E", "a::B", "c", "c::d", "m::L", "m::f::G", "m::n::i"]);
}

#[test]
fn the_simulator_names_no_other_module() {
    let sources = read_sources();
    let simulator: Vec<_> = sources
        .iter()
        .filter(|source| source.module.first().is_some_and(|name| name == "simulator"))
        .collect();
    assert!(simulator.len() > 10, "{} files of the simulator", simulator.len());
    for SourceFile { file, named, .. } in simulator {
        let foreign = named.iter().find(|path| path.first().is_none_or(|name| name != "simulator"));
        assert_eq!(foreign, None, "{} names another module of the crate", file.display());
    }
}

type Edge = (PathBuf, PathBuf);

/// The imports of each file, as pairs of files. A name that a file imports counts as an import of the file that defines
/// the name, so a `mod.rs` that re-exports is transparent.
fn find_edges(sources: &[SourceFile]) -> BTreeSet<Edge> {
    let files: BTreeMap<_, _> = sources.iter().map(|source| (&*source.module, source)).collect();
    let mut edges = BTreeSet::new();
    for source in sources {
        for path in &source.imports {
            let target = defining_file(path, &files);
            if target != source.file {
                edges.insert((source.file.clone(), target));
            }
        }
    }
    edges
}

/// The file that defines what `path` names.
fn defining_file(path: &[String], files: &BTreeMap<&[String], &SourceFile>) -> PathBuf {
    let source = (0..=path.len()).rev().find_map(|length| files.get(&path[..length])).unwrap();
    let Some(name) = path.get(source.module.len()) else { return source.file.clone() };
    let is_reexport = |import: &&CratePath| {
        import.last() == Some(name)
            && import[..import.len() - 1] != source.module
            && import.as_slice() != path
    };
    match source.imports.iter().find(is_reexport) {
        Some(import) => defining_file(import, files),
        None => source.file.clone(),
    }
}

/// Whether the file `from` imports the file `to`, itself or through others.
fn reaches(edges: &BTreeSet<Edge>, from: &Path, to: &Path) -> bool {
    let mut seen = BTreeSet::from([from]);
    let mut open = vec![from];
    while let Some(file) = open.pop() {
        let imported =
            edges.iter().filter(|(importing, _)| importing == file).map(|(_, imported)| &**imported);
        open.extend(imported.filter(|file| seen.insert(file)));
    }
    seen.contains(to)
}

/// The edges that are part of a cycle.
fn find_cycles(edges: &BTreeSet<Edge>) -> Vec<&Edge> {
    edges.iter().filter(|(from, to)| reaches(edges, to, from)).collect()
}

/// Imports that close a cycle and are still to be removed. Do not add to this list: move what both files need to a third
/// one.
const CYCLES_TO_REMOVE: &[(&str, &str)] = &[
    ("poller/account.rs", "poller/mod.rs"),
    ("poller/prices.rs", "poller/mod.rs"),
    ("poller/schedule.rs", "poller/mod.rs"),
    ("poller/set.rs", "poller/mod.rs"),
    ("simulator/exchange/call.rs", "simulator/mod.rs"),
];

#[test]
fn no_files_import_each_other() {
    let edges = find_edges(&read_sources());
    assert!(edges.len() > 200, "{} imports", edges.len());
    let known: Vec<_> = CYCLES_TO_REMOVE.iter().map(|(from, to)| (from.into(), to.into())).collect();
    let new: BTreeSet<_> = edges.iter().filter(|edge| !known.contains(edge)).cloned().collect();
    let cycles = find_cycles(&new);
    assert!(cycles.is_empty(), "files that import each other: {cycles:#?}");
    let closes_cycle = |edge: &&Edge| edges.contains(edge) && reaches(&new, &edge.1, &edge.0);
    let gone: Vec<_> = known.iter().filter(|edge| !closes_cycle(edge)).collect();
    assert!(gone.is_empty(), "these close no cycle any more, remove them from CYCLES_TO_REMOVE: {gone:#?}");
}

#[test]
fn a_cycle_is_found_through_a_reexport_and_not_through_tests() {
    let source = |file: &str, text: &str| {
        let module = module_path(Path::new(file));
        let imports = find_imports(text, &module);
        SourceFile { file: file.into(), module, named: BTreeSet::new(), imports }
    };
    let sources = [
        source("lib.rs", "mod a; mod b;"),
        source("a/mod.rs", "mod c; mod d; pub use self::c::C; pub use d::D;"),
        source("a/c.rs", "use crate::b; #[cfg(test)] use crate::b::{X}; pub struct C;"),
        source("a/d.rs", "pub struct D; #[cfg(test)] mod tests { use crate::a::C; }"),
        source("b.rs", "use crate::a::C; fn f(d: crate::a::D) {}"),
    ];
    let edge = |from: &str, to: &str| (PathBuf::from(from), PathBuf::from(to));
    let edges = find_edges(&sources);
    let expected = [
        edge("a/c.rs", "b.rs"),
        edge("a/mod.rs", "a/c.rs"),
        edge("a/mod.rs", "a/d.rs"),
        edge("b.rs", "a/c.rs"),
        edge("b.rs", "a/d.rs"),
    ];
    assert_eq!(edges, BTreeSet::from(expected));
    let cycle = [edge("a/c.rs", "b.rs"), edge("b.rs", "a/c.rs")];
    assert_eq!(find_cycles(&edges), cycle.iter().collect::<Vec<_>>());
}
