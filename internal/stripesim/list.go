package stripesim

import (
	"slices"
	"time"
)

const pageParams = "limit starting_after ending_before "

// page cuts one page out of objects that are newest first. Cursors are ids, not
// offsets: what is made while somebody reads does not shift the pages behind.
func (c *call) page(all []object) (object, *apiError) {
	limit := int(c.integer("limit", 10, 1, 100))
	from, to := 0, len(all)
	after, before := c.str("starting_after"), c.str("ending_before")
	if after != "" && before != "" {
		return nil, invalid("ending_before", "You can only specify one of these parameters: starting_after, ending_before.")
	}
	if after != "" {
		from = c.cursor(all, "starting_after") + 1
	}
	// Going back, the page is the one that ends at the cursor, and has_more is
	// about what is newer.
	if before != "" {
		to = c.cursor(all, "ending_before")
		from = max(0, to-limit)
	}
	if c.err != nil {
		return nil, c.err
	}
	end := min(to, from+limit)
	hasMore := end < len(all)
	if before != "" {
		hasMore = from > 0
	}
	return object{"object": "list", "data": append([]object{}, all[from:end]...), "has_more": hasMore, "url": c.path}, nil
}

func (c *call) cursor(all []object, param string) int {
	id := c.str(param)
	i := slices.IndexFunc(all, func(o object) bool { return o["id"] == id })
	if i < 0 {
		c.fail(noSuch("object", id, param))
		return 0
	}
	return i
}

const createdParams = "created created[gt] created[gte] created[lt] created[lte] "

// span is the seconds that a list is narrowed to.
type span struct{ from, to int64 }

func (sp span) has(t time.Time) bool { return t.Unix() >= sp.from && t.Unix() < sp.to }

// created reads a filter by time: one second or a range.
func (c *call) created() span {
	const far = 1 << 40
	if c.str("created") != "" {
		at := c.integer("created", 0, 0, far)
		return span{at, at + 1}
	}
	return span{
		from: max(c.integer("created[gt]", -1, 0, far)+1, c.integer("created[gte]", 0, 0, far)),
		to:   min(c.integer("created[lt]", far, 0, far), c.integer("created[lte]", far-1, 0, far)+1),
	}
}
