// SPDX-License-Identifier: MIT OR Apache-2.0

//! `#[lab_guest::test]`: registers a function with the lab's test harness.
//!
//! `#[test(key = value, …)]` becomes the function itself plus an inventory entry whose metadata is
//! `TestMeta { key: value, …, ..TestMeta::DEFAULT }`. Keys and value types are therefore those of `TestMeta`, and a
//! misspelt key is an ordinary compile error. A bracketed list is borrowed (`modules = ["vexfs"]` means `&["vexfs"]`).
//!
//! A function without parameters runs inside the guest. One with a parameter runs on the host, is handed the kernel to
//! drive, and boots machines itself.

use proc_macro::{Delimiter, TokenStream, TokenTree};

/// Registers a function as a lab test. See the crate documentation.
#[proc_macro_attribute]
pub fn test(attributes: TokenStream, item: TokenStream) -> TokenStream {
    let Some((name, takes_kernel)) = signature(&item) else {
        return "compile_error!(\"lab_guest::test goes on a function\");"
            .parse()
            .unwrap_or_default();
    };
    let fields = match fields(attributes) {
        Ok(fields) => fields,
        Err(message) => return format!("compile_error!({message:?});").parse().unwrap_or_default(),
    };
    let body = if takes_kernel {
        format!(
            "::lab_guest::registry::Body::Host(|kernel| ::lab_guest::registry::Verdict::from_return({name}(kernel)))"
        )
    } else {
        format!("::lab_guest::registry::Body::Guest(|| ::lab_guest::registry::Verdict::from_return({name}()))")
    };
    let registration = format!(
        "::lab_guest::inventory::submit! {{ ::lab_guest::registry::Test {{ \
            name: {name:?}, module: ::core::module_path!(), body: {body}, \
            meta: ::lab_guest::registry::TestMeta {{ {fields} ..::lab_guest::registry::TestMeta::DEFAULT }} }} }}"
    );
    let mut out = item;
    match registration.parse::<TokenStream>() {
        Ok(tokens) => out.extend(tokens),
        Err(error) => {
            return format!("compile_error!({:?});", error.to_string())
                .parse()
                .unwrap_or_default();
        }
    }
    out
}

/// The function's name, and whether it has a parameter.
fn signature(item: &TokenStream) -> Option<(String, bool)> {
    let mut tokens = item.clone().into_iter();
    tokens.find(|token| matches!(token, TokenTree::Ident(ident) if ident.to_string() == "fn"))?;
    let name = tokens.next()?.to_string();
    let parameters = tokens.find_map(|token| match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis => Some(group),
        _ => None,
    })?;
    Some((name, !parameters.stream().is_empty()))
}

/// `key = value, …` as struct fields `key: value, …`.
fn fields(attributes: TokenStream) -> Result<String, String> {
    let mut out = Vec::new();
    let mut tokens = attributes.into_iter().peekable();
    while let Some(key) = tokens.next() {
        let TokenTree::Ident(key) = key else {
            return Err(format!("expected `key = value`, found `{key}`"));
        };
        match tokens.next() {
            Some(TokenTree::Punct(punct)) if punct.as_char() == '=' => {}
            _ => return Err(format!("expected `=` after `{key}`")),
        }
        let mut value = String::new();
        while let Some(token) = tokens.next_if(|token| !matches!(token, TokenTree::Punct(p) if p.as_char() == ',')) {
            if matches!(&token, TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket) {
                value.push('&');
            }
            value.push_str(&token.to_string());
            if !matches!(&token, TokenTree::Punct(punct) if punct.spacing() == proc_macro::Spacing::Joint) {
                value.push(' ');
            }
        }
        tokens.next();
        out.push(format!("{key}: {value}, "));
    }
    Ok(out.concat())
}
