//! The structure of the source: the modules that a file may name.
//!
//! [`read_sources`] resolves every path of every file that begins with `crate`, `super` or `self`.

use std::{
    collections::BTreeSet,
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
}

/// Reads every file of the library. The `quick` crate and the program's `main.rs` are not part of it.
fn read_sources() -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let file = path.strip_prefix(&root).unwrap().to_owned();
            if path.is_dir() && file != Path::new("quick") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && file != Path::new("main.rs")
            {
                let module = module_path(&file);
                let named = find_named_paths(&fs::read_to_string(path).unwrap(), &module);
                sources.push(SourceFile { file, module, named });
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
