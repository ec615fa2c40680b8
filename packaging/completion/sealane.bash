# bash completion for sealane(1)
_sealane() {
  local cur prev words cword
  _init_completion || return
  case $prev in
    --config | --evidence) _filedir; return ;;
    --port | --wait) return ;;
  esac
  local i verb=
  for ((i = 1; i < cword; i++)); do
    case ${words[i]} in
      --config) ((i++)) ;;
      -*) ;;
      *) verb=${words[i]}; break ;;
    esac
  done
  local options='--config --help' nouns=
  case $verb in
    '') COMPREPLY=($(compgen -W "query explain decide lint check cache prewarm agent relay doctor setup --version $options" -- "$cur")); return ;;
    query) options+=' --json --fresh --port --no-mx --wait --local' ;;
    explain) options+=' --json --fresh --port --no-mx --wait' ;;
    check) options+=' --port --no-mx --wait' ;;
    decide) options+=' --json --evidence' ;;
    cache) options+=' --force' nouns='list show purge export import restore' ;;
    prewarm) _filedir; return ;;
    agent|relay) options+=' --check' ;;
    setup) options+=' --dry-run --undo' nouns=exim ;;
    lint) options+=' --json' nouns='policy txt tlsa' ;;
  esac
  if [[ $cur == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$cur"))
  elif [[ $nouns && $prev == "$verb" ]]; then
    COMPREPLY=($(compgen -W "$nouns" -- "$cur"))
  elif [[ $verb == lint || $prev == import ]]; then
    _filedir
  fi
} && complete -F _sealane sealane
