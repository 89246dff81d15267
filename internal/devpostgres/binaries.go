package devpostgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// minMajor is the oldest PostgreSQL that still gets fixes.
const minMajor = 15

// binaries is a folder with the programs of one PostgreSQL version.
type binaries struct {
	dir     string
	version string // as the program says it
	major   int
}

func (b binaries) path(program string) string { return filepath.Join(b.dir, program) }

// errNoPostgres: there is nothing to choose from, so installing one helps.
var errNoPostgres = errors.New("no PostgreSQL found")

// search describes where to look for PostgreSQL.
type search struct {
	binDir   string   // the only place, if set
	path     []string // folders, the first one wins
	versions []string // patterns of folders per version, the highest version wins
	cache    []string // what was installed earlier
	inspect  func(dir string) (binaries, error)
}

// locate finds the PostgreSQL for the cluster, installing one as the last resort.
// wantMajor is the version of existing data; 0 means any.
func locate(ctx context.Context, o Options, acct account, wantMajor int) (binaries, error) {
	s := search{
		binDir: o.BinDir,
		path:   pathDirs(),
		versions: []string{
			"/usr/lib/postgresql/*/bin",
			"/usr/pgsql-*/bin",
			"/opt/homebrew/opt/postgresql@*/bin",
			"/usr/local/opt/postgresql@*/bin",
			"/Applications/Postgres.app/Contents/Versions/*/bin",
		},
		inspect: func(dir string) (binaries, error) { return inspect(ctx, dir, acct) },
	}
	found, err := s.find(wantMajor)
	if err == nil || o.BinDir != "" {
		return found, err
	}
	inst := installer{account: acct, log: o.Logger}
	if o.CacheDir != "" {
		var dirErr error
		if inst.prefix, dirErr = reachableDir(o.CacheDir, acct, o.Logger); dirErr != nil {
			return binaries{}, dirErr
		}
		s.cache = []string{inst.npmBinDir()}
		if found, cacheErr := s.find(wantMajor); cacheErr == nil {
			return found, nil
		}
	}
	if !errors.Is(err, errNoPostgres) {
		return binaries{}, err
	}
	if instErr := inst.install(ctx); instErr != nil {
		return binaries{}, fmt.Errorf("%w; %w\nInstall PostgreSQL %d or newer, or set KEYMETER_PG_BIN to the folder "+
			"that holds its programs postgres and initdb", err, instErr, minMajor)
	}
	return s.find(wantMajor)
}

// find chooses among what is there.
func (s search) find(wantMajor int) (binaries, error) {
	if s.binDir != "" {
		b, err := s.inspect(s.binDir)
		if err != nil {
			return binaries{}, err
		}
		return chooseVersion([]binaries{b}, wantMajor)
	}
	var unfit []error
	usable := func(dirs []string) []binaries {
		var group []binaries
		for _, dir := range dirs {
			if !executable(filepath.Join(dir, "postgres")) || !executable(filepath.Join(dir, "initdb")) {
				continue
			}
			if b, err := s.inspect(dir); err != nil {
				unfit = append(unfit, err)
			} else {
				group = append(group, b)
			}
		}
		return group
	}
	var versioned []string
	for _, pattern := range s.versions {
		dirs, _ := filepath.Glob(pattern) // fails on a wrong pattern only
		versioned = append(versioned, dirs...)
	}
	group := usable(versioned)
	slices.SortStableFunc(group, func(a, b binaries) int { return cmp.Compare(b.major, a.major) })
	all := slices.Concat(usable(s.path), group, usable(s.cache))
	if len(all) == 0 {
		return binaries{}, errors.Join(append([]error{errNoPostgres}, unfit...)...)
	}
	return chooseVersion(all, wantMajor)
}

// chooseVersion takes the first of the wanted version: data can only be read by the version that wrote it.
func chooseVersion(all []binaries, wantMajor int) (binaries, error) {
	if wantMajor == 0 {
		return all[0], nil
	}
	var have []string
	for _, b := range all {
		if b.major == wantMajor {
			return b, nil
		}
		have = append(have, fmt.Sprintf("%d (%s)", b.major, b.dir))
	}
	return binaries{}, fmt.Errorf("the data was written by PostgreSQL %d, but this machine has only %s: "+
		"set KEYMETER_PG_BIN to the programs of version %d, or delete the data to start afresh",
		wantMajor, strings.Join(have, ", "), wantMajor)
}

// inspect makes sure that the programs work for the account and asks them for their version.
func inspect(ctx context.Context, dir string, acct account) (binaries, error) {
	for _, program := range []string{"postgres", "initdb"} {
		path := filepath.Join(dir, program)
		if !executable(path) {
			return binaries{}, fmt.Errorf("there is no program %s", path)
		}
		if blocked := acct.obstacle(path); blocked != "" {
			return binaries{}, fmt.Errorf("user %s, whom postgres is run as, cannot get to %s because the folder %s is closed",
				acct.name, path, blocked)
		}
	}
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version")
	cmd.Dir = "/"
	cmd.Env = childEnv()
	cmd.SysProcAttr = acct.attributes()
	out, err := cmd.CombinedOutput()
	version := strings.TrimSpace(string(out))
	if err != nil {
		return binaries{}, fmt.Errorf("%s does not run: %w: %s", cmd.Path, err, version)
	}
	major := majorVersion(version)
	if major < minMajor {
		return binaries{}, fmt.Errorf("%s is too old (%s); version %d is the least", cmd.Path, version, minMajor)
	}
	return binaries{dir: dir, version: version, major: major}, nil
}

// majorVersion reads "postgres (PostgreSQL) 15.18 (Debian 15.18-0)" as 15; 0 if it cannot.
func majorVersion(text string) int {
	match := regexp.MustCompile(`\(PostgreSQL\) (\d+)`).FindStringSubmatch(text)
	if match == nil {
		return 0
	}
	major, _ := strconv.Atoi(match[1])
	return major
}

// pathDirs are the folders of the PATH that hold a postgres, with links followed: package managers like to link
// single programs, and the rest of them is where the links lead.
func pathDirs() []string {
	var dirs []string
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if real, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres")); err == nil {
			dirs = append(dirs, filepath.Dir(real))
		}
	}
	return dirs
}
