function __iccld_answers
    set -l words (commandline -opc) (commandline -ct)
    iccld completion --words $words[2..-1] 2>/dev/null
end
complete -c iccld -n 'count (__iccld_answers) >/dev/null' -f -a '(__iccld_answers)'
