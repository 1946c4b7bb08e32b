_iccld() {
    local -a answers
    answers=(${(f)"$(iccld completion --words "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( ${#answers} )); then compadd -- $answers; else _files; fi
}
compdef _iccld iccld
