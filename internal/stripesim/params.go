package stripesim

import (
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// params are a request's parameters under their full names, as in
// items[0][price]. Readers note the first bad value in err, so that a handler
// reads all it needs and asks once.
type params struct {
	values map[string]string
	err    *apiError
}

var indexRE = regexp.MustCompile(`\[\d+\]`)

// parseParams flattens form values. An unnumbered list, expand[]=a&expand[]=b,
// becomes a numbered one.
func parseParams(form url.Values) *params {
	p := &params{values: map[string]string{}}
	for name, values := range form {
		if !strings.Contains(name, "[]") { // given twice, the last one counts
			p.values[name] = values[len(values)-1]
			continue
		}
		for i, v := range values {
			p.values[strings.ReplaceAll(name, "[]", "["+strconv.Itoa(i)+"]")] = v
		}
	}
	return p
}

// paramSet is the set of parameters one endpoint takes. Names are written as
// Stripe documents them, with [] for any index and a mark at the end:
// "!" required, "?" may be emptied to unset it, "{}" a map of strings.
type paramSet struct {
	scalar   map[string]bool // name -> may be empty
	maps     []string
	required []string
	foreign  []string // Stripe's, but not simulated
}

func takes(names, notSimulated string) paramSet {
	set := paramSet{scalar: map[string]bool{"expand[]": false}, foreign: strings.Fields(notSimulated)}
	for _, name := range strings.Fields(names) {
		bare := strings.TrimRight(name, "!?{}")
		switch {
		case strings.HasSuffix(name, "{}"):
			set.maps = append(set.maps, bare)
		default:
			set.scalar[bare] = strings.HasSuffix(name, "?")
		}
		if strings.HasSuffix(name, "!") {
			set.required = append(set.required, bare)
		}
	}
	return set
}

// check refuses what the endpoint does not take, in name order so that the same
// request always gets the same complaint.
func (p *params) check(set paramSet) *apiError {
	for _, name := range slices.Sorted(maps.Keys(p.values)) {
		if set.inMap(name) {
			continue
		}
		shape := indexRE.ReplaceAllString(name, "[]")
		mayBeEmpty, known := set.scalar[shape]
		switch {
		case !known && set.isForeign(shape):
			return notSimulated(name, "the parameter "+name)
		case !known && set.isContainer(shape):
			return invalid(name, "Invalid object or array: "+name)
		case !known:
			return unknownParam(name)
		case p.values[name] == "" && !mayBeEmpty:
			return emptyParam(name)
		}
	}
	for _, name := range set.required {
		if !p.has(strings.ReplaceAll(name, "[]", "[0]")) {
			return missingParam(name)
		}
	}
	return nil
}

func (set paramSet) inMap(name string) bool {
	return slices.ContainsFunc(set.maps, func(m string) bool {
		key, ok := strings.CutPrefix(name, m)
		return ok && (key == "" || key[0] == '[' && strings.IndexByte(key, ']') == len(key)-1 && len(key) > 2)
	})
}

func (set paramSet) isForeign(shape string) bool {
	return slices.ContainsFunc(set.foreign, func(f string) bool {
		return shape == f || strings.HasPrefix(shape, f+"[")
	})
}

// isContainer says whether parameters are taken inside this one, but not itself.
func (set paramSet) isContainer(shape string) bool {
	within := func(name string) bool { return strings.HasPrefix(name, shape+"[") }
	return slices.ContainsFunc(set.maps, within) || slices.ContainsFunc(slices.Collect(maps.Keys(set.scalar)), within)
}

// has says whether the parameter, or anything inside it, was given.
func (p *params) has(name string) bool {
	if _, ok := p.values[name]; ok {
		return true
	}
	for given := range p.values {
		if strings.HasPrefix(given, name+"[") {
			return true
		}
	}
	return false
}

func (p *params) fail(err *apiError) {
	if p.err == nil {
		p.err = err
	}
}

func (p *params) str(name string) string { return p.values[name] }

// must reads a parameter that is required only once its siblings are there.
func (p *params) must(name string) string {
	if p.values[name] == "" {
		p.fail(missingParam(name))
	}
	return p.values[name]
}

func (p *params) boolean(name string) (value, given bool) {
	switch v, ok := p.values[name]; {
	case !ok:
		return false, false
	case v == "true" || v == "false":
		return v == "true", true
	default:
		p.fail(invalid(name, "Invalid boolean: "+v))
		return false, true
	}
}

func (p *params) integer(name string, fallback, low, high int64) int64 {
	v, ok := p.values[name]
	if !ok {
		return fallback
	}
	n, err := strconv.ParseInt(v, 10, 64)
	switch {
	case err != nil:
		p.fail(invalidCode("parameter_invalid_integer", name, "Invalid integer: "+v))
	case n < low || n > high:
		p.fail(invalid(name, "Invalid "+name+": must be between "+strconv.FormatInt(low, 10)+" and "+strconv.FormatInt(high, 10)))
	}
	return n
}

// oneOf reads an enumeration; an absent one is "".
func (p *params) oneOf(name string, allowed ...string) string {
	v, ok := p.values[name]
	if ok && !slices.Contains(allowed, v) {
		p.fail(invalid(name, "Invalid "+name+": must be one of "+strings.Join(allowed, ", ")))
	}
	return v
}

func (p *params) webURL(name string) string {
	v := p.values[name]
	if v != "" && !isWebURL(v) {
		p.fail(invalidCode("url_invalid", name, "Not a valid URL"))
	}
	return v
}

// list reads a list of scalars in the order of its indices.
func (p *params) list(name string) []string {
	byIndex := map[int]string{}
	for given, v := range p.values {
		inner, ok := strings.CutPrefix(given, name+"[")
		if i, err := strconv.Atoi(strings.TrimSuffix(inner, "]")); ok && err == nil {
			byIndex[i] = v
		}
	}
	var out []string
	for _, i := range slices.Sorted(maps.Keys(byIndex)) {
		out = append(out, byIndex[i])
	}
	return out
}

// onlyOne refuses a second element of a list of objects.
func (p *params) onlyOne(name string) {
	for given := range p.values {
		if strings.HasPrefix(given, name+"[") && !strings.HasPrefix(given, name+"[0]") {
			p.fail(notSimulated(name, "more than one of "+name))
		}
	}
}

// merge applies a map parameter as Stripe does: keys are added or replaced, an
// empty value removes its key, an empty map removes all.
func (p *params) merge(name string, old map[string]string) map[string]string {
	out := map[string]string{}
	switch v, whole := p.values[name]; {
	case !whole:
		maps.Copy(out, old)
	case v != "":
		p.fail(invalid(name, "Invalid object"))
	}
	for given, v := range p.values {
		inner, ok := strings.CutPrefix(given, name+"[")
		if !ok {
			continue
		}
		key := strings.TrimSuffix(inner, "]")
		if v == "" {
			delete(out, key)
			continue
		}
		if len(key) > 40 || len(v) > 500 {
			p.fail(invalid(given, "Metadata keys hold up to 40 characters and values up to 500."))
		}
		out[key] = v
	}
	if len(out) > 50 {
		p.fail(invalid(name, "Metadata can have up to 50 keys."))
	}
	return out
}
