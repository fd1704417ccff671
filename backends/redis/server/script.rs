//! Scripts that the server runs. Each touches one slot, names its keys literally and may be repeated.

/// Stores a record under a lease that is still held and a generation that still counts.
///
/// Keys: lease, generation, record, note. Arguments: lease id, generation, value, milliseconds to live, milliseconds
/// that the generation lives. Sets before it deletes: on a full server the older record stays.
pub(crate) const STORE: &str = "\
local held = redis.call('GET', KEYS[3])
if held and string.sub(held, 17, 32) == ARGV[1] then return 'stored' end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'lost' end
if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 'purged' end
redis.call('SET', KEYS[3], ARGV[3], 'PX', ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('DEL', KEYS[1], KEYS[4])
return 'stored'";

/// Lengthens a lease that is still held. Keys: lease. Arguments: lease id, milliseconds.
pub(crate) const RENEW: &str = "\
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0";

/// Ends a lease, and leaves a note in its place where one is given. Keys: lease, note. Arguments: lease id, note or
/// nothing, milliseconds to live.
pub(crate) const END: &str = "\
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
if ARGV[2] ~= '' then redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3]) end
return 1";

/// Begins a new generation of a name, under which no earlier record counts. Deletes first, so that it works on a full
/// server. Keys: generation. Arguments: new generation, milliseconds to live.
pub(crate) const PURGE: &str = "\
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1";

/// Removes a record that KMS refuses, and the lease of a fetch under way. Keys: lease, record, note. Arguments: note
/// or nothing, milliseconds to live.
pub(crate) const DECIDE: &str = "\
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
if ARGV[1] ~= '' then redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[2]) end
return 1";

/// Appends to the journal. Deletes an old page first, so that it works on a full server. Keys: head, page, old page.
/// Arguments: epoch, number of the page, entries on a page, entry, milliseconds that the head and a page live.
///
/// Returns the number of the entry, or the number of the last one as a negative number where the page is another.
pub(crate) const APPEND: &str = "\
local head = redis.call('GET', KEYS[1])
if not head or string.sub(head, 1, 32) ~= ARGV[1] then return 0 end
local next = tonumber(string.sub(head, 34)) + 1
if math.floor((next - 1) / tonumber(ARGV[3])) ~= tonumber(ARGV[2]) then return 1 - next end
redis.call('DEL', KEYS[3])
redis.call('APPEND', KEYS[2], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[6])
redis.call('SET', KEYS[1], ARGV[1] .. ':' .. string.format('%d', next), 'PX', ARGV[5])
return next";

/// Begins a new epoch in place of the one that is named. Keys: head, first page of the new epoch. Arguments: old
/// epoch, new epoch, entry, milliseconds that the head and a page live.
pub(crate) const EPOCH: &str = "\
local head = redis.call('GET', KEYS[1])
if head and string.sub(head, 1, 32) == ARGV[2] then return 1 end
if head and string.sub(head, 1, 32) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('APPEND', KEYS[2], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('SET', KEYS[1], ARGV[2] .. ':1', 'PX', ARGV[4])
return 1";

/// Tells the server's time. Its key only chooses the server.
pub(crate) const TIME: &str = "return redis.call('TIME')";

/// Keeps a ciphertext where the key is absent, and returns the one in force. Keys: ciphertext. Arguments: ciphertext or
/// nothing, milliseconds to live.
pub(crate) const KEEP: &str = "\
local held = redis.call('GET', KEYS[1])
if held then redis.call('PEXPIRE', KEYS[1], ARGV[2]) return held end
if ARGV[1] == '' then return '' end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]";
