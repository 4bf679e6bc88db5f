"""Train one bundle at several hospitals: only weights and scores travel, by NVFlare; images stay where they are."""
