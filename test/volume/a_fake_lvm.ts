import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { atEnd, tempDir, type Scope } from '../rigs/tmp.ts';

/**
 * LVM's commands for machines whose kernel has no device-mapper: a logical volume is a sparse file, a snapshot a copy. They
 * take the words that nova-volume gives, write each call down, and refuse any others. A snapshot is not written to: that
 * takes room of it, and what it was given may be too little.
 */
export interface AFakeLvm {
  group: string;
  /** Calls so far, one a line, without those that only look or copy; and forgets them. */
  changes(): string[];
  /** So many of the next calls fail. */
  failNext(count: number): void;
}

export function aFakeLvm(scope: Scope, total_mb = 4096): AFakeLvm {
  const dir = tempDir(scope, 'lvm');
  const group = `nova-test-${process.pid}-${dir.split('-').at(-1) ?? ''}`;
  const dev = `/dev/${group}`;
  for (const folder of ['bin', 'lv', 'of', 'tag', 'cow']) mkdirSync(join(dir, folder));
  mkdirSync(dev);
  const program = join(dir, 'bin', 'lvm');
  writeFileSync(program, script(dir, dev, group, total_mb));
  chmodSync(program, 0o755);
  for (const name of ['vgs', 'lvs', 'lvcreate', 'lvremove', 'lvrename', 'lvconvert', 'dd'])
    symlinkSync('lvm', join(dir, 'bin', name));
  const path = process.env['PATH'];
  process.env['PATH'] = `${join(dir, 'bin')}:${path ?? ''}`;
  atEnd(scope, async () => {
    process.env['PATH'] = path;
    rmSync(dev, { recursive: true });
  });
  const calls = join(dir, 'calls');
  return {
    group,
    changes: () => {
      const lines = existsSync(calls) ? readFileSync(calls, 'utf8').trim().split('\n') : [];
      rmSync(calls, { force: true });
      return lines.filter((line) => !/^(vgs|lvs|dd) /.test(line));
    },
    failNext: (count) => writeFileSync(join(dir, 'fail'), String(count)),
  };
}

const script = (dir: string, dev: string, group: string, total_mb: number): string => `#!/bin/sh
set -eu
cd ${dir}
name=$(basename "$0")
echo "$name $*" >>calls
bad() { echo "  $name: $*" >&2; exit 5; }
left=$(cat fail 2>/dev/null || echo 0)
[ "$left" -eq 0 ] || { echo $((left - 1)) >fail; bad "told to fail"; }
if [ "$name" = dd ]; then
  for to in of/*; do case "$* " in *" of=${dev}/\${to#of/} "*) bad "No space left in snapshot \${to#of/}" ;; esac; done
  exec /bin/dd "$@"
fi
room() { [ -e "cow/$1" ] && cat "cow/$1" || stat -c %s "lv/$1"; }
used=0
for lv in lv/*; do [ ! -e "$lv" ] || used=$((used + $(room "\${lv#lv/}"))); done
total=$((${total_mb} * 1048576))
case "$name $*" in
"vgs --noheadings -o name") printf '  other-group\\n  ${group}\\n' ;;
"vgs --noheadings --nosuffix --units b -o vg_size,vg_free ${group}") echo "  $total $((total - used))" ;;
"lvs --noheadings --nosuffix --units b --separator : -o lv_name,lv_attr,lv_size,lv_tags ${group}")
  for lv in lv/*; do
    [ -e "$lv" ] || continue
    lv=\${lv#lv/} kind=-
    [ ! -e "of/$lv" ] || kind=s
    ! grep -qxF "$lv" of/* 2>/dev/null || kind=o
    echo "  $lv:\${kind}wi-a-----:$(room "$lv"):$(cat "tag/$lv")"
  done ;;
lvcreate\\ *)
  [ "$1" = -L ] || bad "$*"
  size=$2
  [ "$3" = --addtag ] || bad "$*"
  case "$5 $#" in
  "-n 8") new=$6 of=; [ "$7 $8" = "${group} --yes" ] || bad "$*" ;;
  "--name 8") new=$6 of=\${8#${group}/}; [ "$7" = --snapshot ] || bad "$*" ;;
  *) bad "$*" ;;
  esac
  case $new in snapshot*) bad "names starting with snapshot are reserved" ;; esac
  [ ! -e "lv/$new" ] || bad "$new already exists"
  truncate -s "$size" "lv/$new"
  [ $((used + $(stat -c %s "lv/$new"))) -le $total ] || { rm "lv/$new"; bad "insufficient free space"; }
  if [ -n "$of" ]; then
    # What a real one keeps of 4 KiB takes 16 bytes more.
    [ $(($(stat -c %s "lv/$of") * 257 / 256)) -le "$(stat -c %s "lv/$new")" ] || bad "$new would overflow"
    stat -c %s "lv/$new" >"cow/$new"
    cp --sparse=always "lv/$of" "lv/$new"
    echo "$of" >"of/$new"
  fi
  echo "$4" >"tag/$new"
  ln -s "${dir}/lv/$new" "${dev}/$new" ;;
"lvremove -f ${group}/"*)
  old=\${2#${group}/}
  [ -e "lv/$old" ] || bad "no such volume: $old"
  rm -f "lv/$old" "of/$old" "tag/$old" "cow/$old" "${dev}/$old" ;;
"lvconvert --splitsnapshot --yes ${group}/"*)
  old=\${3#${group}/}
  [ -e "of/$old" ] || bad "not a snapshot: $old"
  truncate -s "$(cat "cow/$old")" "lv/$old"
  rm "of/$old" "cow/$old" ;;
"lvrename ${group} "*)
  mv "lv/$2" "lv/$3"
  mv "tag/$2" "tag/$3"
  rm "${dev}/$2"
  ln -s "${dir}/lv/$3" "${dev}/$3" ;;
*) bad "unknown words: $*" ;;
esac
`;
