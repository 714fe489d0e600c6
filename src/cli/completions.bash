# bash completion for scalesocket
_scalesocket()
{
  local cur=${COMP_WORDS[COMP_CWORD]} program= own= i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in
      --)
        own=1
        [ "$((i + 1))" -eq "$COMP_CWORD" ] || program=1
        break
        ;;
      @VALUED@)
        local option=${COMP_WORDS[i]}
        i=$((i + 1))
        # bash makes an equals sign a word of its own.
        if [ "${COMP_WORDS[i]}" = = ]; then
          i=$((i + 1))
          [ "$i" -le "$COMP_CWORD" ] || cur=
        fi
        if [ "$i" -ge "$COMP_CWORD" ]; then
          _scalesocket_value "$option" "$cur"
          return
        fi
        ;;
      @EQUALS@)
        if [ "${COMP_WORDS[i + 1]}" = = ] && [ "$((i + 2))" -ge "$COMP_CWORD" ]; then
          [ "$((i + 1))" -lt "$COMP_CWORD" ] || cur=
          _scalesocket_value "${COMP_WORDS[i]}" "$cur"
          return
        fi
        ;;
      =) i=$((i + 1)) ;;
      -?*) ;;
      *)
        if [ -n "$program" ]; then
          own=1
          break
        fi
        program=1
        ;;
    esac
  done
  if [ -z "$own" ] && [[ $cur == -* ]]; then
    # Behind the program only long options are ours.
    case $program$cur in
      1-) cur=-- ;;
      1-[!-]*) return ;;
    esac
    COMPREPLY=($(compgen -W '@OPTIONS@' -- "$cur"))
    [[ ${COMPREPLY[0]} != *= ]] || compopt -o nospace 2>/dev/null
    return
  fi
  # From here on names with spaces in them.
  local IFS=$'\n'
  compopt -o filenames 2>/dev/null
  if [ -n "$program" ]; then
    COMPREPLY=($(compgen -f -- "$cur"))
  else
    COMPREPLY=($(compgen -c -- "$cur") $(compgen -d -- "$cur"))
  fi
}
_scalesocket_value()
{
  local cur=$2
  case $1 in
    @VALUES@
  esac
}
complete -F _scalesocket scalesocket
