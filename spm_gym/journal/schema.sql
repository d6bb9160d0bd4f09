-- The journal of a run. Times named "time" are seconds on the instrument's clock, those named
-- "wall" seconds since 1970; lengths are metres. Everything is written as it happens.

CREATE TABLE sessions (            -- one for every start of the program
    id INTEGER PRIMARY KEY,
    wall REAL NOT NULL,
    pid INTEGER NOT NULL,
    resumed INTEGER NOT NULL,
    config TEXT NOT NULL,          -- the settings in force, YAML
    config_sha256 TEXT NOT NULL,
    classifier_sha256 TEXT NOT NULL,
    agent_sha256 TEXT NOT NULL,    -- of the weights it began with; empty without an agent
    versions TEXT NOT NULL,        -- JSON: package -> version
    command TEXT NOT NULL DEFAULT 'run'  -- run, train, evaluate
);
CREATE TABLE areas (               -- approach areas, in the order of their use
    number INTEGER PRIMARY KEY,
    coarse_x INTEGER NOT NULL,     -- position in coarse moves since the start of the run
    coarse_y INTEGER NOT NULL,
    certain INTEGER NOT NULL,      -- 0: the move there may not have been carried out
    time REAL NOT NULL,
    reason TEXT NOT NULL           -- why it was entered
);
CREATE TABLE marks (               -- blocked places
    id INTEGER PRIMARY KEY,
    area INTEGER NOT NULL,
    x REAL NOT NULL,
    y REAL NOT NULL,
    radius REAL NOT NULL,
    reason TEXT NOT NULL
);
CREATE TABLE scans (               -- every row has its file
    id INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    file TEXT NOT NULL UNIQUE,     -- relative to the run directory
    label TEXT,                    -- see Label; NULL until it is decided
    reason TEXT NOT NULL DEFAULT '',
    area INTEGER NOT NULL,
    x REAL NOT NULL,
    y REAL NOT NULL,
    size REAL NOT NULL,
    pixels INTEGER NOT NULL,       -- of a line
    lines INTEGER NOT NULL,        -- fewer than pixels: a preview
    angle REAL NOT NULL,
    fraction REAL NOT NULL,        -- share of the lines that was asked for
    bias REAL,
    setpoint REAL,
    z_low REAL,
    z_high REAL,
    z REAL,                        -- median of its heights; NULL if nothing was scanned
    current REAL,                  -- after it, A; NULL after a partial scan, or if it is not known
    time REAL NOT NULL,
    wall REAL NOT NULL,
    elapsed REAL NOT NULL,         -- seconds of operation on the instrument's clock
    probability REAL,              -- that the probe is good, by the classifier; NULL for a preview
                                   -- and for an unknown image
    preview_probability REAL,      -- the same, by the classifier of previews; NULL for an image
                                   -- and for an unknown preview, whose reason says "unknown"
    clean_side REAL,
    episode INTEGER
);
CREATE TABLE acts (                -- intents, completed by their results
    id INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    number INTEGER UNIQUE,         -- NULL: it has no intent (reconnecting)
    act TEXT NOT NULL,
    details TEXT NOT NULL,         -- JSON: place, depth, bias, width, direction; monotonic: seconds
                                   -- since the computer was started, if there is a budget by the hour
    wall REAL NOT NULL,
    before TEXT NOT NULL,          -- JSON: what the instrument showed
    result TEXT,                   -- done, refused, failed, unknown; NULL while under way
    reason TEXT NOT NULL DEFAULT '',
    wall_result REAL,
    after TEXT NOT NULL DEFAULT '{}'
);
CREATE TABLE episodes (            -- of conditioning
    id INTEGER PRIMARY KEY,
    area INTEGER NOT NULL,
    time REAL NOT NULL,
    elapsed REAL NOT NULL,
    first_scan INTEGER NOT NULL,   -- the image that it began with
    actions INTEGER NOT NULL DEFAULT 0,
    outcome TEXT,                  -- good, limit; cut off, if a training or an evaluation
                                   -- ended in the middle of it; NULL while under way
    time_end REAL,
    elapsed_end REAL
);
CREATE TABLE steps (               -- of an episode: a decision, and what came of it
    id INTEGER PRIMARY KEY,
    episode INTEGER NOT NULL,
    number INTEGER NOT NULL,       -- within the episode, from 1
    scan INTEGER NOT NULL,         -- the image it was decided on
    action INTEGER NOT NULL,
    name TEXT NOT NULL,
    policy TEXT NOT NULL,          -- that has chosen it: agent, random
    mask TEXT NOT NULL,            -- JSON: which actions were allowed
    q TEXT NOT NULL,               -- JSON: the policy's values of the actions, or null
    forecast TEXT,                 -- JSON: belief, and what was expected of each action, or NULL
    act INTEGER,                   -- number of the act; NULL if refused
    refused INTEGER NOT NULL DEFAULT 0,
    uncertain INTEGER NOT NULL DEFAULT 0,
    scan_after INTEGER,            -- NULL until the next image is classified
    reward REAL,
    terminated INTEGER,
    truncated INTEGER,
    UNIQUE (episode, number)
);
CREATE TABLE recoveries (
    id INTEGER PRIMARY KEY,
    trouble TEXT NOT NULL,         -- lost contact, crash, connection, missing lines, withdrawn, refused
    area INTEGER NOT NULL,
    x REAL,
    y REAL,
    time REAL NOT NULL,
    elapsed REAL NOT NULL,
    detail TEXT NOT NULL,
    result TEXT                    -- recovered, failed; NULL while under way
);
CREATE TABLE events (              -- plain sentences
    id INTEGER PRIMARY KEY,
    wall REAL NOT NULL,
    time REAL NOT NULL,
    kind TEXT NOT NULL,
    text TEXT NOT NULL
);
CREATE TABLE state (               -- one row: where the run goes on
    id INTEGER PRIMARY KEY CHECK (id = 1),
    runner TEXT NOT NULL,          -- JSON
    instrument BLOB                -- a simulated microscope, safetensors; NULL for a real one
);
CREATE INDEX scans_by_label ON scans (label);
CREATE INDEX marks_by_area ON marks (area);
CREATE INDEX steps_by_episode ON steps (episode);
