"""The sections of the report, one module each (`report_contents.SectionModule`)."""
