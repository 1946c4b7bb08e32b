_iccld() {
    local answers
    answers=$(iccld completion --words "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    local IFS=$'\n'
    COMPREPLY=($(compgen -W "$answers" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o bashdefault -o default -F _iccld iccld
