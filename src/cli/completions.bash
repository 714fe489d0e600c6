# bash completion for scalesocket
_scalesocket()
{
  local cur=${COMP_WORDS[COMP_CWORD]} option= i word
  COMPREPLY=()
  # `=` is a word of its own here.
  if [ "$cur" = = ]; then
    cur=
    option=${COMP_WORDS[COMP_CWORD-1]}
  elif [ "${COMP_WORDS[COMP_CWORD-1]}" = = ]; then
    option=${COMP_WORDS[COMP_CWORD-2]}
  else
    option=${COMP_WORDS[COMP_CWORD-1]}
  fi

  # Where the program stands, and whether its own arguments have begun.
  local program=0 own=0
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    case $word in
      --) own=1; [ $program -gt 0 ] || program=$((i + 1)); break ;;
      @VALUED@) i=$((i + 1)); [ "${COMP_WORDS[i]}" != = ] || i=$((i + 1)) ;;
      =) i=$((i + 1)) ;;
      -?*) ;;
      *) if [ $program -gt 0 ]; then own=1; break; fi; program=$i ;;
    esac
  done

  if [ $program -gt 0 ] && [ $COMP_CWORD -gt $program ] && { [ $own = 1 ] || [[ $cur != -* ]]; }; then
    # Still the value of an option of ours, right after the program?
    case $option in
      @VALUED@) [ $own = 1 ] || { _scalesocket_value "$option"; return; } ;;
    esac
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen -f -- "$cur"))
    return
  fi
  if [ $own = 0 ]; then
    case $option in
      @VALUED@) _scalesocket_value "$option"; return ;;
    esac
    if [[ $cur == -* ]]; then
      COMPREPLY=($(compgen -W '@OPTIONS@' -- "$cur"))
      [[ ${COMPREPLY[0]} != *= ]] || compopt -o nospace 2>/dev/null
      return
    fi
  fi
  compopt -o filenames 2>/dev/null
  COMPREPLY=($(compgen -c -- "$cur") $(compgen -d -- "$cur"))
}
_scalesocket_value()
{
  case $1 in
    @VALUES@
  esac
}
complete -F _scalesocket scalesocket
