"""The paper's studies as data, one runner that resumes, and the report beside the paper."""
