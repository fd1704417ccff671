//! Script for bash: a table of the commands, generated from their definitions, and one function that reads it.

use std::fmt::Write;

use clap::{Arg, Command, ValueHint};

/// The part that does not depend on the commands. `$1` of `_…_table` is the command, `$2` the option before the word.
const FUNCTIONS: &str = r#"
_alibabacloud_kms_agent() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev= command= separator= i word
    local options= argument= value=
    COMPREPLY=()
    [ "$COMP_CWORD" -eq 0 ] || prev=${COMP_WORDS[COMP_CWORD - 1]}
    # bash splits --option=value in three.
    if [ "$cur" = = ]; then
        cur=
    elif [ "$prev" = = ] && [ "$COMP_CWORD" -gt 1 ]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [ "$word" = -- ] && [ -z "$separator" ]; then
            separator=$i
        elif [ -z "$command" ] && [[ $word != -* ]]; then
            command=$word
        fi
    done
    _alibabacloud_kms_agent_table "$command" "$prev"
    if [ -n "$separator" ]; then
        if [ "$argument" != command ] || [ $((separator + 1)) -eq "$COMP_CWORD" ]; then
            _alibabacloud_kms_agent_offer "$argument"
        elif declare -F _command_offset >/dev/null; then
            _command_offset $((separator + 1))
        else
            _alibabacloud_kms_agent_offer file
        fi
    elif [ -n "$value" ]; then
        _alibabacloud_kms_agent_offer "$value"
    elif [[ $cur == -* ]] || [ -z "$argument" ] || [ "$argument" = command ]; then
        _alibabacloud_kms_agent_offer "words $options"
    else
        _alibabacloud_kms_agent_offer "$argument"
    fi
}

# Fills COMPREPLY with what is of the kind $1 and begins with $cur.
_alibabacloud_kms_agent_offer() {
    local word
    case $1 in
    file | folder) compopt -o filenames 2>/dev/null || : ;;
    esac
    while IFS= read -r word; do
        COMPREPLY+=("$word")
    done < <(
        case $1 in
        file) compgen -f -- "$cur" ;;
        folder) compgen -d -- "$cur" ;;
        user) compgen -u -- "$cur" ;;
        group) compgen -g -- "$cur" ;;
        command) compgen -c -- "$cur" ;;
        words\ *) compgen -W "${1#words }" -- "$cur" ;;
        esac
    )
}

complete -F _alibabacloud_kms_agent alibabacloud-kms-agent
"#;

/// The script.
pub(super) fn script(command: &Command) -> String {
    let mut command = command.clone();
    command.build();
    let mut script = "# Completion of alibabacloud-kms-agent for bash.\n\n\
        # Sets what may follow: options, argument (their kind), value (the kind of the value of $2).\n\
        _alibabacloud_kms_agent_table() {\n    case $1 in\n"
        .to_owned();
    let names: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
    let of_help = format!("words {}", names.join(" "));
    add(&mut script, &command, "''", &of_help);
    for subcommand in command.get_subcommands() {
        let name = subcommand.get_name();
        // The last is what follows `--`.
        let argument = match subcommand.get_positionals().last() {
            _ if name == "help" => of_help.clone(),
            Some(positional) => kind(positional),
            None => String::new(),
        };
        add(&mut script, subcommand, name, &argument);
    }
    script.push_str("    esac\n}\n");
    script.push_str(FUNCTIONS);
    script
}

/// One row of the table.
fn add(script: &mut String, command: &Command, pattern: &str, argument: &str) {
    let options: Vec<String> = command
        .get_opts()
        .chain(flags(command))
        .flat_map(names)
        .collect();
    // Writing to a String cannot fail.
    let _ = write!(
        script,
        "    {pattern})\n        options='{}'\n        argument='{argument}'\n        case $2 in\n",
        options.join(" ")
    );
    for option in command.get_opts() {
        let _ = writeln!(
            script,
            "        {}) value='{}' ;;",
            names(option).join(" | "),
            match kind(option) {
                kind if kind.is_empty() => "any".to_owned(),
                kind => kind,
            }
        );
    }
    let _ = writeln!(script, "        esac\n        ;;");
}

fn flags(command: &Command) -> impl Iterator<Item = &Arg> {
    command
        .get_arguments()
        .filter(|argument| !argument.is_positional() && !argument.get_action().takes_values())
}

fn names(option: &Arg) -> Vec<String> {
    let long = option.get_long().map(|long| format!("--{long}"));
    let short = option.get_short().map(|short| format!("-{short}"));
    long.into_iter().chain(short).collect()
}

/// Returns the kind of values that an argument takes; empty for text that cannot be completed.
fn kind(argument: &Arg) -> String {
    let values = argument.get_possible_values();
    if !values.is_empty() {
        let names: Vec<&str> = values
            .iter()
            .map(clap::builder::PossibleValue::get_name)
            .collect();
        return format!("words {}", names.join(" "));
    }
    match argument.get_value_hint() {
        _ if argument.get_id() == "group" => "group",
        ValueHint::FilePath | ValueHint::AnyPath => "file",
        ValueHint::DirPath => "folder",
        ValueHint::Username => "user",
        ValueHint::CommandWithArguments => "command",
        _ => "",
    }
    .to_owned()
}
